/** Event files read back by a reader of their own: checksums bit by bit, fields one by one. */
import assert from 'node:assert/strict'
import { readdirSync, readFileSync } from 'node:fs'
import test from 'node:test'
import { TensorBoardLog } from '../../../src/train/loop/tensorboard.ts'
import { scratch } from '../fixtures.ts'

const at = scratch()

/** CRC-32C by polynomial division, one bit at a time. */
function crc32c(data: Uint8Array): number {
  let crc = 0xffffffff
  for (const byte of data)
    for (let bit = 0; bit < 8; bit++) {
      const mix = (crc ^ (byte >> bit)) & 1
      crc = (crc >>> 1) ^ (mix ? 0x82f63b78 : 0)
    }
  return ~crc >>> 0
}

const unmask = (masked: number): number => {
  const rotated = (masked - 0xa282ead8) >>> 0
  return ((rotated << 15) | (rotated >>> 17)) >>> 0
}

function* records(file: Buffer): Generator<Buffer> {
  for (let at = 0; at < file.length; ) {
    const length = Number(file.readBigUInt64LE(at))
    assert.equal(unmask(file.readUInt32LE(at + 8)), crc32c(file.subarray(at, at + 8)))
    const data = file.subarray(at + 12, at + 12 + length)
    assert.equal(unmask(file.readUInt32LE(at + 12 + length)), crc32c(data))
    yield data
    at += 16 + length
  }
}

/** Field number to raw values, in order. */
function fields(data: Buffer): Map<number, (number | Buffer)[]> {
  const out = new Map<number, (number | Buffer)[]>()
  let at = 0
  const varint = (): number => {
    let value = 0
    for (let scale = 1; ; scale *= 128) {
      const byte = data[at++]!
      value += (byte & 127) * scale
      if (byte < 128) return value
    }
  }
  while (at < data.length) {
    const key = varint()
    const wire = key & 7
    let value: number | Buffer
    if (wire === 0) value = varint()
    else if (wire === 1) [value, at] = [data.readDoubleLE(at), at + 8]
    else if (wire === 5) [value, at] = [data.readFloatLE(at), at + 4]
    else {
      const length = varint()
      ;[value, at] = [data.subarray(at, at + length), at + length]
    }
    out.set(key >> 3, [...(out.get(key >> 3) ?? []), value])
  }
  return out
}

test('the checksum reader knows the published value', () => {
  assert.equal(crc32c(Buffer.from('123456789')), 0xe3069283)
})

test('scalars of steps and epochs, with a session start where a run goes on', async () => {
  const log = new TensorBoardLog(at('board'))
  const facts = {
    runs: 1,
    batch: 1,
    parameters: 1,
    stepsPerEpoch: 10,
    totalSteps: 400,
    device: 'cpu',
    objectives: [],
    fallbacks: [],
    warnings: [],
    seconds: 1,
  }
  await log.write({ kind: 'start', step: 299, ...facts })
  const step = { epoch: 29, lr: 0.1, gradientNorm: 2, imagesPerSecond: 100 }
  await log.write({ kind: 'step', step: 299, loss: 0.625, top1: 0.5, ...step })
  await log.write({ kind: 'step', step: 300, loss: 0.5, top1: null, ...step })
  await log.write({ kind: 'epoch', epoch: 29, valLoss: 0.75, valTop1: 0.25 })
  await log.write({ kind: 'checkpoint', step: 300, path: 'x' })
  await log.close()
  const [name] = readdirSync(at('board'))
  assert.match(name!, /^events\.out\.tfevents\.\d+\./)
  const events = [...records(readFileSync(at(`board/${name}`)))].map(fields)
  assert.equal(events.length, 5)
  assert.equal(String(events[0]!.get(3)![0]), 'brain.Event:2')
  assert.deepEqual([events[1]!.get(2), fields(events[1]!.get(7)![0] as Buffer).get(1)], [[299], [1]])
  const scalars = events.slice(2).map((e) => {
    assert.ok(Math.abs(Number(e.get(1)![0]) - Date.now() / 1000) < 60)
    const values = fields(e.get(5)![0] as Buffer)
      .get(1)!
      .map((v) => fields(v as Buffer))
    return [e.get(2)![0], Object.fromEntries(values.map((v) => [String(v.get(1)![0]), v.get(2)![0]]))]
  })
  const shared = { 'train/learning_rate': Math.fround(0.1), 'train/gradient_norm': 2, 'train/images_per_second': 100 }
  assert.deepEqual(scalars, [
    [299, { 'train/loss': 0.625, ...shared, 'train/top1': 0.5 }],
    [300, { 'train/loss': 0.5, ...shared }],
    [300, { 'validation/loss': 0.75, 'validation/top1': 0.25 }],
  ])
})
