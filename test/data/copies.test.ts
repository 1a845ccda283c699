/** Cropped and mirrored copies of calibration images: each is one of its image, and sets without pictures have none. */
import assert from 'node:assert/strict'
import test from 'node:test'
import type { MncError } from '../../src/base/errors.ts'
import { calibrationData } from '../../src/data/calibration.ts'
import { images, pixels, SIZE, tinyNet } from '../train/fixtures.ts'

const COUNT = 10

async function rowsOf(copies: number): Promise<Float32Array[]> {
  const model = tinyNet()
  model.metadata.set('mnc.preprocess', JSON.stringify(pixels))
  const data = await calibrationData(model, images(COUNT), { batch: 4, copies })
  assert.equal(data.samples, COUNT * (1 + copies))
  const rows: Float32Array[] = []
  for await (const feeds of data.batches()) {
    const [t] = Object.values(feeds)
    const x = t!.toFloat32()
    for (let at = 0; at < x.length; at += SIZE * SIZE) rows.push(x.slice(at, at + SIZE * SIZE))
  }
  return rows
}

/** Whether `copy` is `image` moved by up to 4 pixels, with zeros around it, and perhaps mirrored. */
function isCopy(copy: Float32Array, image: Float32Array): boolean {
  for (const mirrored of [false, true])
    for (let dy = -4; dy <= 4; dy++)
      for (let dx = -4; dx <= 4; dx++) {
        const at = (y: number, x: number): number => {
          const [from, column] = [y + dy, (mirrored ? SIZE - 1 - x : x) + dx]
          return from < 0 || from >= SIZE || column < 0 || column >= SIZE ? 0 : image[from * SIZE + column]!
        }
        if (copy.every((v, i) => v === at(Math.floor(i / SIZE), i % SIZE))) return true
      }
  return false
}

test('copies come behind the images themselves, are crops and mirror images of them, each of every image once a round', async () => {
  const plain = await rowsOf(0)
  const rows = await rowsOf(2)
  assert.equal(rows.length, 3 * COUNT)
  assert.deepEqual(rows.slice(0, COUNT), plain)
  for (const round of [1, 2]) {
    const own = rows.slice(round * COUNT, (round + 1) * COUNT)
    for (const image of plain) assert.ok(own.some((copy) => isCopy(copy, image)))
  }
  assert.notDeepEqual(rows.slice(COUNT, 2 * COUNT), rows.slice(2 * COUNT))
  assert.deepEqual(await rowsOf(2), rows)
})

test('for a model of one batch no copy is lost: what fills a batch up counts', async () => {
  const model = tinyNet()
  model.metadata.set('mnc.preprocess', JSON.stringify(pixels))
  const [input] = model.graph.inputs
  input!.setType({ elem: 'float32', dims: [4, 1, SIZE, SIZE] })
  for (const v of model.graph.outputs) v.setType({ elem: 'float32', dims: [4, 3] })
  const data = await calibrationData(model, images(COUNT), { copies: 2 })
  let rows = 0
  for await (const feeds of data.batches()) rows += Object.values(feeds)[0]!.dims[0]!
  assert.equal(rows, 3 * 12)
  assert.equal(data.samples, rows)
})

test('what is no picture cannot be cropped', async () => {
  await assert.rejects(
    calibrationData(tinyNet(), 'random', { copies: 1 }),
    (e: MncError) => e.blame === 'user' && /--copies/.test(e.message),
  )
})
