/** `mpirun -n N mnc train`: the bits of one process, at any number of ranks, and what happens when one of them dies. */
import assert from 'node:assert/strict'
import { existsSync, readdirSync, readFileSync } from 'node:fs'
import test from 'node:test'
import { readModel, writeModel } from '../../src/codec/codec.ts'
import { runCommandLine } from '../../src/commands/program.ts'
import { buildNetwork } from '../../src/models/spec.ts'
import { runPass } from '../../src/passes/run-pass.ts'
import { Sink } from '../cli/sink.ts'
import { type Launcher, launcherOf, mnc, run, skipped } from '../support/mpi.ts'
import { scratch } from './fixtures.ts'

const at = scratch()

/** Masks that move, quantiser scales that are learned, running statistics. */
async function network(file: string, seed = 0): Promise<string> {
  const pixels = { mean: [0.286], std: [0.353] }
  const model = buildNetwork({ family: 'resnet', depth: 8, width: 4, channels: 1, size: 12, ...pixels }, { seed })
  await runPass(model, 'prune', { sparsity: 0.5 })
  await runPass(model, 'quantize', { weightBits: 4, activationBits: 0 })
  await writeModel(model, at(file))
  return at(file)
}

const MODEL = await network('net.onnx')
const TEACHER = at('teacher.onnx')
await writeModel(
  buildNetwork(
    { family: 'resnet', depth: 8, width: 4, channels: 1, size: 12, mean: [0.286], std: [0.353] },
    { seed: 1 },
  ),
  TEACHER,
)

const STEPS = 16
/** 8 steps an epoch, each of 4 batches of 4 images. */
const flags = [
  ...['--data', 'embedded', '--limit', '160', '--val-fraction', '0.2', '--batch', '4', '--epochs', '2', '--lr', '0.02'],
  ...['--ema', '0.9', '--clip-norm', '1', '--mask-update-every', '3', '--mask-update-until', '9', '--threads', '1'],
  ...['--teacher', TEACHER, '--compare-every', '4'],
]
const trainInto = (out: string, more: readonly string[] = []): string[] => [
  'train',
  MODEL,
  ...flags,
  ...more,
  '-o',
  at(out),
]

async function alone(out: string, more: readonly string[]): Promise<void> {
  const err = new Sink()
  assert.equal(await runCommandLine(trainInto(out, more), { stdout: new Sink(), stderr: err }), 0, err.text)
}

await alone('alone.onnx', ['--accumulate', '4', '--log', at('alone.jsonl')])

const bytesOf = (name: string): Buffer => readFileSync(at(name))

/** The files that a run leaves are those of the run by itself. */
function sameAsAlone(name: string): void {
  for (const kind of ['', '.best', '.checkpoint'])
    assert.ok(bytesOf(`${name}${kind}.onnx`).equals(bytesOf(`alone${kind}.onnx`)), `${name}${kind}.onnx`)
}

/** Lines of a log without the figures that time decides. */
const logged = (name: string): unknown[] =>
  readFileSync(at(name), 'utf8')
    .trim()
    .split('\n')
    .map((line) => ({ ...JSON.parse(line), imagesPerSecond: 0 }))

/** Weights of a file, by name. */
async function weights(name: string): Promise<Map<string, Float32Array>> {
  const model = await readModel(at(name))
  return new Map(Array.from(model.graph.initializers(), (v) => [v.name, v.constant!.toFloat32()]))
}

const FEW = ['--max-steps', '3', '--mask-update-until', '0']
await alone('exact.onnx', ['--accumulate', '6', ...FEW])

/** The process of a rank: Linux says which environment and arguments each has. */
function pidOf(launcher: Launcher, rank: number, out: string): number {
  for (const pid of readdirSync('/proc').filter((p) => /^\d+$/.test(p))) {
    const read = (what: string): string => {
      try {
        return readFileSync(`/proc/${pid}/${what}`, 'utf8')
      } catch {
        return ''
      }
    }
    if (`\0${read('environ')}`.includes(`\0${launcher.rank}=${rank}\0`) && read('cmdline').includes(out))
      return Number(pid)
  }
  throw new Error(`rank ${rank} has ended`)
}

for (const name of ['Open MPI', 'MPICH'] as const) {
  const launcher = launcherOf(name)
  const { start } = launcher
  const skip = skipped(name)
  // more ranks than cores wait for each other without rest there: the whole takes a minute
  const rest = skip || (name === 'MPICH' && !process.env.MNC_TEST_MPICH && 'runs where MNC_TEST_MPICH names a launcher')
  const file = (of: string): string => `${name.replace(' ', '')}-${of}`

  test(`${name}: 4 ranks give the bits of one process that accumulates 4 batches`, { skip }, async () => {
    const out = file('whole')
    const log = at(`${out}.jsonl`)
    const { code, err } = await run([...start(4), ...mnc, ...trainInto(`${out}.onnx`, ['--log', log])])
    assert.equal(code, 0, err)
    assert.equal(err.match(/parameters, 16 steps/g)?.length, 1, `one rank speaks: ${err}`)
    assert.match(err, /4 ranks of .*MPI/i)
    sameAsAlone(out)
    assert.deepEqual(logged(`${out}.jsonl`), logged('alone.jsonl'))
  })

  test(`${name}: --reduce fast is within 1e-5 of the exact sum after 3 steps`, { skip: rest }, async () => {
    const out = file('fast.onnx')
    const { code, err } = await run([
      ...[...start(3), ...mnc],
      ...trainInto(out, ['--accumulate', '2', '--reduce', 'fast', ...FEW]),
    ])
    assert.equal(code, 0, err)
    const exact = await weights('exact.onnx')
    let changed = 0
    for (const [v, values] of await weights(out))
      values.forEach((x, i) => {
        const want = exact.get(v)![i]!
        if (x !== want) changed++
        assert.ok(Math.abs(x - want) <= 1e-5 * Math.max(1, Math.abs(want)), `${v}[${i}]: ${x} for ${want}`)
      })
    assert.ok(changed > 0, 'the sums are in the same order')
  })

  /** 2 ranks, of which the second gets a signal once there is a checkpoint; its process. */
  async function signalled(signal: NodeJS.Signals, out: string) {
    const words = trainInto(`${out}.onnx`, ['--accumulate', '2', '--checkpoint-steps', '1'])
    const job = run([...start(2), ...mnc, ...words])
    while (!existsSync(at(`${out}.checkpoint.onnx`))) await new Promise((done) => setTimeout(done, 5))
    const pid = pidOf(launcher, 1, at(`${out}.onnx`))
    process.kill(pid, signal)
    return { ...(await job), pid }
  }

  test(`${name}: a rank that is killed ends the job and is named; 4 ranks go on from the checkpoint of 2`, {
    skip,
  }, async () => {
    const out = file('killed')
    const { code, out: said, err, pid } = await signalled('SIGKILL', out)
    assert.notEqual(code, 0)
    assert.match(said + err, name === 'MPICH' ? new RegExp(`pid.${pid}`, 'i') : /rank 1 .*signal 9/s)
    assert.ok(!existsSync(at(`${out}.onnx`)))
    const reached = JSON.parse((await readModel(at(`${out}.checkpoint.onnx`))).metadata.get('mnc.training')!).step
    assert.ok(reached > 0 && reached < STEPS, `${reached}`)
    const stderr = new Sink()
    const other = trainInto(`${out}.onnx`, ['--resume', '--accumulate', '2'])
    assert.equal(await runCommandLine(other, { stdout: new Sink(), stderr }), 2)
    assert.match(stderr.text, /another run: accumulate was 4, now 2/)
    const more = await run([...start(4), ...mnc, ...trainInto(`${out}.onnx`, ['--resume'])])
    assert.equal(more.code, 0, more.err)
    assert.match(more.err, new RegExp(`from step ${reached}`))
    sameAsAlone(out)
  })

  test(`${name}: a signal at any rank stops all at the same step, with a checkpoint`, { skip: rest }, async () => {
    const out = file('stopped')
    const { code, err } = await signalled('SIGTERM', out)
    assert.equal(code, 130, err)
    assert.equal(err.match(/mnc: interrupted after \d+ steps; checkpoint in/g)?.length, 1, err)
    await alone(`${out}.onnx`, ['--accumulate', '4', '--resume'])
    sameAsAlone(out)
  })
}

const { start } = launcherOf('Open MPI')
const skip = skipped('Open MPI')

/** Rank 0 trains the model, rank 1 is given other words. */
const unequal = (own: readonly string[], other: readonly string[]): string[] => [
  ...start(1),
  ...[...mnc, ...own],
  ...[':', '-n', '1', ...mnc, ...other],
]

test('what happens to one rank alone is said by it; all end', { skip }, async () => {
  const [own, other] = [trainInto('x.onnx'), trainInto('x.onnx').with(1, at('missing.onnx'))]
  const missing = await run(unequal(own, other))
  assert.equal(missing.code, 2)
  assert.match(missing.err, /mnc: .*missing\.onnx: rank 1: cannot be read: no such file/)
  assert.equal(missing.err.match(/mnc: /g)?.length, 1, missing.err)

  const both = await run(unequal(other, other))
  assert.equal(both.code, 2)
  assert.match(both.err, /mnc: .*missing\.onnx: cannot be read/)
  assert.equal(both.err.match(/mnc: /g)?.length, 1, both.err)
})

test('ranks with different models are found after the first step', { skip }, async () => {
  const another = trainInto('y.onnx').with(1, await network('other.onnx', 1))
  const { code, err } = await run(unequal(trainInto('y.onnx'), another))
  assert.equal(code, 2)
  assert.match(err, /rank 1 and rank 0 differ in the state after step 1/)
  assert.equal(err.match(/mnc: /g)?.length, 1, err)
})

test('averages and learning rates that differ are found, too', { skip }, async () => {
  const words = trainInto('w.onnx')
  const other = (flag: string, value: string): string[] => words.with(words.indexOf(flag) + 1, value)
  for (const differing of [other('--ema', '0.8'), other('--lr', '0.03')]) {
    const { code, err } = await run(unequal(words, differing))
    assert.equal(code, 2, err)
    assert.match(err, /rank 1 and rank 0 differ in the state after step [14]/)
  }
})

test('a machine without the MPI library says how to get it', { skip }, async () => {
  const words = [...mnc, ...trainInto('z.onnx')]
  const { code, err } = await run(words, { OMPI_COMM_WORLD_SIZE: '2', MNC_MPI: at('libmpi.so') })
  assert.equal(code, 2)
  assert.match(err, /MPI library cannot be loaded: .*libmpi\.so: .*MNC_MPI/)
})
