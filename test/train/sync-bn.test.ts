/** `mpirun -n N mnc train --sync-bn`: ranks whose batches BatchNormalization sees as one train as one process with all of them. */
import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import test from 'node:test'
import { readModel, writeModel } from '../../src/codec/codec.ts'
import { runCommandLine } from '../../src/commands/program.ts'
import { buildNetwork } from '../../src/models/spec.ts'
import { runPass } from '../../src/passes/run-pass.ts'
import { Sink } from '../cli/sink.ts'
import { launcherOf, mnc, run, skipped } from '../support/mpi.ts'
import { scratch } from './fixtures.ts'

const at = scratch()

const spec = { family: 'resnet', depth: 8, channels: 1, size: 12, mean: [0.286], std: [0.353] } as const
const student = buildNetwork({ ...spec, width: 4 }, { seed: 0 })
await runPass(student, 'prune', { sparsity: 0.5 })
await writeModel(student, at('net.onnx'))
await writeModel(buildNetwork({ ...spec, width: 6 }, { seed: 1 }), at('teacher.onnx'))

/** 12 steps, in 3 epochs, of two batches of 16 images. */
const flags = [
  ...['--data', 'embedded', '--limit', '160', '--val-fraction', '0.2', '--accumulate', '2', '--epochs', '3'],
  ...['--lr', '0.02', '--ema', '0.9', '--clip-norm', '1', '--threads', '1', '--compare-every', '1'],
  ...['--teacher', at('teacher.onnx'), '--teacher-bn', 'batch', '--alpha', '0.7'],
]
const trainInto = (out: string, batch: number, ...more: readonly string[]): string[] => [
  ...['train', at('net.onnx'), ...flags, '--batch', String(batch), ...more, '-o', at(`${out}.onnx`)],
  ...['--log', at(`${out}.jsonl`)],
]

async function alone(words: readonly string[]): Promise<{ readonly code: number; readonly err: string }> {
  const err = new Sink()
  return { code: await runCommandLine([...words], { stdout: new Sink(), stderr: err }), err: err.text }
}

const whole = await alone(trainInto('whole', 16))
assert.equal(whole.code, 0, whole.err)

const bytesOf = (name: string): Buffer => readFileSync(at(`${name}.onnx`))

const lossesOf = (name: string): number[] =>
  readFileSync(at(`${name}.jsonl`), 'utf8')
    .trim()
    .split('\n')
    .flatMap((line) => JSON.parse(line).loss ?? [])

async function constants(name: string): Promise<Map<string, Float32Array>> {
  const model = await readModel(at(`${name}.onnx`))
  return new Map(Array.from(model.graph.initializers(), (v) => [v.name, v.constant!.toFloat32()]))
}

const off = (a: number, b: number): number => Math.abs(a - b) / Math.max(1, Math.abs(b))

/** The largest difference in losses of steps, and in weights, running statistics and masks at the end. */
async function distance(name: string): Promise<{ readonly losses: number; readonly state: number }> {
  const [own, wanted] = [lossesOf(name), lossesOf('whole')]
  assert.equal(own.length, wanted.length)
  const losses = Math.max(...own.map((loss, i) => off(loss, wanted[i]!)))
  const all = await constants('whole')
  let state = 0
  for (const [v, values] of await constants(name))
    values.forEach((x, i) => {
      state = Math.max(state, off(x, all.get(v)![i]!))
    })
  return { losses, state }
}

async function equalsWhole(name: string): Promise<void> {
  const { losses, state } = await distance(name)
  assert.ok(losses <= 1e-5 && state <= 1e-5, `${name}: losses ${losses}, weights and statistics ${state}`)
}

for (const name of ['Open MPI', 'MPICH'])
  test(`${name}: 4 ranks of 4 images train as one process of 16, to rounding`, { skip: skipped(name) }, async () => {
    const out = name.replace(' ', '')
    const { code, err } = await run([...launcherOf(name).start(4), ...mnc, ...trainInto(out, 4, '--sync-bn')])
    assert.equal(code, 0, err)
    await equalsWhole(out)
    // the file says what one process would have been told
    const facts = async (of: string) => JSON.stringify((await readModel(at(`${of}.onnx`))).metadata.get('mnc.history'))
    assert.match(await facts(out), /\\"batch\\":16,/)
    assert.match(await facts(out), /\\"accumulate\\":2,/)
  })

const { start } = launcherOf('Open MPI')
const skip = skipped('Open MPI')

test('the bits do not depend on the MPI library', { skip: skip || skipped('MPICH') }, () => {
  assert.ok(bytesOf('OpenMPI').equals(bytesOf('MPICH')))
})

test('--reduce fast is within 1e-5, too; without --sync-bn it is another training', { skip }, async () => {
  const fast = await run([...start(2), ...mnc, ...trainInto('fast', 8, '--sync-bn', '--reduce', 'fast')])
  assert.equal(fast.code, 0, fast.err)
  await equalsWhole('fast')
  const own = await run([...start(2), ...mnc, ...trainInto('own', 8)])
  assert.equal(own.code, 0, own.err)
  const { losses } = await distance('own')
  assert.ok(losses > 1e-3, `${losses}`)
})

test('a checkpoint belongs to the whole batch: 4 ranks begin, 2 go on, one process ends', { skip }, async () => {
  // ends of epochs: the last step of a run is validated, too
  const begin = trainInto('moved', 4, '--sync-bn', '--max-steps', '4')
  const first = await run([...start(4), ...mnc, ...begin])
  assert.equal(first.code, 0, first.err)
  const other = await run([...start(2), ...mnc, ...trainInto('moved', 4, '--sync-bn', '--resume')])
  assert.equal(other.code, 2)
  assert.match(other.err, /another run: batch was 16, now 8/)
  const second = await run([...start(2), ...mnc, ...trainInto('moved', 8, '--sync-bn', '--resume', '--max-steps', '8')])
  assert.equal(second.code, 0, second.err)
  assert.match(second.err, /from step 4/)
  const third = await alone(trainInto('moved', 16, '--resume'))
  assert.equal(third.code, 0, third.err)
  assert.match(third.err, /from step 8/)
  await equalsWhole('moved')
})

test('one process sees its whole batch anyway, and says so', async () => {
  const { code, err } = await alone(trainInto('single', 16, '--sync-bn'))
  assert.equal(code, 0)
  assert.match(err, /--sync-bn: one process sees the whole batch by itself/)
  assert.ok(bytesOf('single').equals(bytesOf('whole')))
})

test('a step in pieces has no profile', { skip }, async () => {
  const words = trainInto('profiled', 8, '--sync-bn', '--profile', at('profile.json'))
  const { code, err } = await run([...start(2), ...mnc, ...words])
  assert.equal(code, 2)
  assert.match(err, /--profile times a step in one piece/)
  assert.equal(err.match(/mnc: /g)?.length, 1, err)
})
