/** SIGINT and SIGTERM end every command within a second, whatever it does, and leave no temporary file. */
import assert from 'node:assert/strict'
import { type ChildProcess, spawn } from 'node:child_process'
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import test, { after } from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'
import { Rng } from '../../src/base/rng.ts'
import { readModel, writeModel } from '../../src/codec/codec.ts'
import { Graph } from '../../src/graph/graph.ts'
import { Model } from '../../src/graph/model.ts'
import { Tensor } from '../../src/graph/tensor.ts'
import { buildNetwork } from '../../src/models/spec.ts'
import { cli } from '../support/compiled.ts'
import { npy, npz } from '../support/data-files.ts'
import { endlessLoop, endlessWhereBright, longLoop, plain, written } from '../support/hostile.ts'

const folder = mkdtempSync(join(tmpdir(), 'mnc-signals-'))
after(() => rmSync(folder, { recursive: true }))
const at = (name: string): string => join(folder, name)

/** A process and those below it, by what Linux tells; none elsewhere. */
function below(pid: number): number[] {
  const children = (() => {
    try {
      return readFileSync(`/proc/${pid}/task/${pid}/children`, 'utf8').trim().split(' ').filter(Boolean).map(Number)
    } catch {
      return []
    }
  })()
  return [pid, ...children.flatMap(below)]
}

const isAlive = (pid: number): boolean => {
  try {
    return !/^State:\s+Z/m.test(readFileSync(`/proc/${pid}/status`, 'utf8'))
  } catch {
    return false
  }
}

const ended = (child: ChildProcess): Promise<{ code: number | null; signal: NodeJS.Signals | null }> =>
  new Promise((done) => child.on('exit', (code, signal) => done({ code, signal })))

/** Seconds of CPU that the processes have used. */
const used = (pids: readonly number[]): number =>
  pids.reduce((sum, pid) => {
    try {
      const fields = readFileSync(`/proc/${pid}/stat`, 'utf8').split(') ')[1]!.split(' ')
      return sum + (Number(fields[11]) + Number(fields[12])) / 100
    } catch {
      return sum
    }
  }, 0)

/** Waits until the command has computed for `seconds` beyond its start, in whichever process. */
async function busy(child: ChildProcess, seconds: number): Promise<void> {
  for (const limit = performance.now() + 60_000; performance.now() < limit && child.exitCode === null; ) {
    if (used(below(child.pid!)) > seconds) return
    await sleep(50)
  }
  assert.fail(`it ended, or is not busy: exit ${child.exitCode}`)
}

async function endsAt(signal: 'SIGINT' | 'SIGTERM', args: readonly string[], seconds: number): Promise<void> {
  const child = spawn(process.execPath, [cli, ...args], { stdio: 'ignore' })
  const end = ended(child)
  await busy(child, seconds)
  const all = below(child.pid!)
  const start = performance.now()
  child.kill(signal)
  const { code, signal: by } = await end
  const took = performance.now() - start
  assert.ok(took < 1000, `${args.join(' ')}: ${took} ms`)
  assert.ok(by === signal || code === { SIGINT: 130, SIGTERM: 143 }[signal], `${code} ${by}`)
  // those that it started see that they are alone
  for (let wait = 0; wait < 40 && all.some(isAlive); wait++) await sleep(50)
  assert.deepEqual(all.filter(isAlive), [], 'processes stay behind')
  assert.deepEqual(
    readdirSync(folder).filter((f) => f.startsWith('.') || f.endsWith('.tmp')),
    [],
  )
}

const linux = process.platform === 'linux' ? {} : { skip: 'reads /proc' }

test('while a model runs forever: in a separate process, and (a teacher) in the command itself', linux, async () => {
  const loop = await written(endlessLoop(), at('loop.onnx'))
  const long = await written(longLoop(), at('long.onnx'))
  const teacher = await written(endlessLoop({ scalar: true }), at('teacher.onnx'))
  const student = await written(plain(), at('student.onnx'))
  const apart = ['--probe-seconds', '600']
  const before = readdirSync(folder)
  await endsAt('SIGTERM', ['info', loop, ...apart], 4)
  await endsAt('SIGINT', ['pass', 'remove-channels', loop, '-o', at('o.onnx'), ...apart], 4)
  await endsAt('SIGINT', ['check', long, long, ...apart], 4)
  await endsAt(
    'SIGTERM',
    [
      'pass',
      'quantize',
      loop,
      '--ops',
      'MatMul',
      '--first-layer',
      'quantize',
      '--data',
      'random',
      '-o',
      at('o.onnx'),
      ...apart,
    ],
    4,
  )
  await endsAt('SIGINT', ['train', student, '--teacher', teacher, '--data', 'random', '-o', at('o.onnx'), ...apart], 4)
  assert.deepEqual(readdirSync(folder), before, 'nothing was written')
})

test(
  'while a step of training does not end: at the second signal, with the checkpoint of the step before',
  linux,
  async () => {
    const [side, count, seed] = [12, 10, 3]
    // the first three images of the epoch are dark, and the others make the teacher loop forever
    const first = new Set(new Rng(seed, 0).permutation(count).subarray(0, 3))
    const images = Uint8Array.from({ length: count * side * side }, (_, p) =>
      first.has(Math.floor(p / (side * side))) ? p % 200 : 255,
    )
    const labels = npy(
      Uint8Array.from({ length: count }, (_, i) => i),
      [count],
    )
    writeFileSync(at('set.npz'), npz({ images: npy(images, [count, side, side]), labels }))
    const teacher = await written(endlessWhereBright(side), at('bright.onnx'))
    await writeModel(buildNetwork({ family: 'lenet', size: side, channels: 1 }), at('lenet.onnx'))
    const args = ['train', at('lenet.onnx'), '--teacher', teacher, '--data', `npz:${at('set.npz')}`, '--mean', '0']
    args.push('--std', '1', '--batch', '1', '--workers', '0', '--seed', String(seed), '--augment', 'none')
    args.push('--checkpoint-steps', '1', '--log', at('log.jsonl'), '-o', at('trained.onnx'))
    const child = spawn(process.execPath, [cli, ...args], {
      stdio: ['ignore', 'ignore', 'pipe'],
    })
    let said = ''
    child.stderr!.on('data', (text) => {
      said += text
    })
    const end = ended(child)
    const steps = (): number =>
      existsSync(at('log.jsonl')) ? readFileSync(at('log.jsonl'), 'utf8').split('\n').length - 1 : 0
    for (let wait = 0; wait < 1200 && steps() < 3 && child.exitCode === null; wait++) await sleep(50)
    assert.equal(steps(), 3, said)
    await sleep(1000)
    const all = below(child.pid!)
    child.kill('SIGINT')
    await sleep(4000)
    assert.match(said, /a second signal ends the command/)
    assert.doesNotMatch(said, /Warning: /)
    assert.ok(isAlive(child.pid!), 'it waits for the step')
    child.kill('SIGINT')
    const start = performance.now()
    const { signal } = await end
    assert.equal(signal, 'SIGKILL')
    assert.ok(performance.now() - start < 5000)
    for (let wait = 0; wait < 40 && all.some(isAlive); wait++) await sleep(50)
    assert.deepEqual(all.filter(isAlive), [], 'processes stay behind')
    assert.deepEqual(
      readdirSync(folder).filter((f) => f.startsWith('.') || f.endsWith('.tmp') || f === 'trained.onnx'),
      [],
    )
    assert.ok((await readModel(at('trained.checkpoint.onnx'))).graph.outputs.length > 0, 'whole')
  },
)

test('while files are written, which are removed', linux, async () => {
  const model = new Model(new Graph('large'))
  const x = model.graph.addInput('x', { elem: 'float32', dims: [1, 4096] })
  let v = x
  for (let i = 0; i < 4; i++) {
    const w = model.graph.addInitializer(`w${i}`, Tensor.float32([4096, 4096], new Float32Array(2 ** 24).fill(i)))
    v = model.graph.append().op('MatMul', [v, w])
  }
  model.graph.addOutput(v)
  await writeModel(model, at('large.onnx'))
  const child = spawn(process.execPath, [cli, 'convert', at('large.onnx'), '-o', at('copy.onnx')], {
    stdio: 'ignore',
  })
  const end = ended(child)
  const temporary = (): string[] => readdirSync(folder).filter((f) => f.startsWith('.copy.onnx'))
  for (let wait = 0; wait < 6000 && temporary().length === 0 && child.exitCode === null; wait++) await sleep(1)
  assert.equal(temporary().length, 1, 'the file is being written')
  child.kill('SIGTERM')
  const { code } = await end
  assert.equal(code, 143)
  assert.deepEqual(
    readdirSync(folder).filter((f) => f.includes('copy')),
    [],
  )
})
