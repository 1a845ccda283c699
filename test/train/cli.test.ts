/** `mnc train` as people run it: killed, interrupted, resumed; what it writes next to the model. */
import assert from 'node:assert/strict'
import { type ChildProcess, spawn } from 'node:child_process'
import { existsSync, readdirSync, readFileSync } from 'node:fs'
import test from 'node:test'
import { readModel, writeModel } from '../../src/codec/codec.ts'
import { runCommandLine } from '../../src/commands/program.ts'
import { buildNetwork } from '../../src/models/spec.ts'
import { Sink } from '../cli/sink.ts'
import { cli } from '../support/compiled.ts'
import { scratch } from './fixtures.ts'

const at = scratch()
const MODEL = at('lenet.onnx')
await writeModel(buildNetwork({ family: 'lenet', size: 12, mean: [0.286], std: [0.353] }), MODEL)

/** 40 steps in 2 epochs of 20; one thread, so that the engine adds in the same order. */
const flags = [
  '--data',
  'embedded',
  '--limit',
  '160',
  '--batch',
  '8',
  '--epochs',
  '2',
  '--lr',
  '0.02',
  '--threads',
  '1',
]

function start(out: string, more: readonly string[] = []): ChildProcess {
  const args = [cli, 'train', MODEL, ...flags, ...more, '-o', out]
  return spawn(process.execPath, args, { stdio: ['ignore', 'pipe', 'pipe'] })
}

/** Exit code or signal, and what was said. */
async function ended(child: ChildProcess): Promise<{ code: number | string | null; out: string; err: string }> {
  let [out, err] = ['', '']
  child.stdout!.on('data', (s: Buffer) => {
    out += s
  })
  child.stderr!.on('data', (s: Buffer) => {
    err += s
  })
  return new Promise((done) => child.on('close', (code, signal) => done({ code: code ?? signal, out, err })))
}

/** Once the file is there. */
async function appears(path: string, child: ChildProcess): Promise<void> {
  while (!existsSync(path)) {
    assert.equal(child.exitCode, null, `the run ended before ${path} was there`)
    await new Promise((done) => setTimeout(done, 2))
  }
}

const steps = (log: string): number[] =>
  readFileSync(log, 'utf8')
    .trim()
    .split('\n')
    .map((l) => JSON.parse(l))
    .filter((e) => 'step' in e)
    .map((e) => e.step)

test('40 steps are 20, kill -9, and the rest: same bytes, each step logged once', async () => {
  const extra = ['--log', at('killed.jsonl'), '--tensorboard', at('board')]
  const child = start(at('killed.onnx'), ['--checkpoint-steps', '1', ...extra])
  const dead = ended(child)
  await appears(at('killed.checkpoint.onnx'), child)
  child.kill('SIGKILL')
  assert.equal((await dead).code, 'SIGKILL')
  assert.ok(!existsSync(at('killed.onnx')))
  const reached = JSON.parse((await readModel(at('killed.checkpoint.onnx'))).metadata.get('mnc.training')!).step
  assert.ok(reached > 0 && reached < 40, `killed after ${reached} steps`)
  const second = await ended(start(at('killed.onnx'), ['--resume', '--json', ...extra]))
  assert.equal(second.code, 0, second.err)
  assert.match(second.err, /from step \d+/)
  assert.equal(JSON.parse(second.out).steps, 40)
  const straight = ['train', MODEL, ...flags, '-q', '--profile', at('trace.json'), '-o', at('straight.onnx')]
  assert.equal(await runCommandLine(straight, { stdout: new Sink(), stderr: new Sink() }), 0)
  assert.ok(readFileSync(at('killed.onnx')).equals(readFileSync(at('straight.onnx'))))
  assert.deepEqual(
    steps(at('killed.jsonl')),
    Array.from({ length: 40 }, (_, i) => i),
  )
  assert.ok(!existsSync(at('killed.checkpoint.onnx')), 'a finished run leaves no checkpoint')
  assert.equal(readdirSync(at('board')).length, 2, 'one event file a process')
  const trace = JSON.parse(readFileSync(at('trace.json'), 'utf8')) as { ph: string; args: { op_name?: string } }[]
  assert.ok(trace.some((e) => e.ph === 'X' && e.args.op_name?.includes('Conv')))
})

test('SIGINT: a checkpoint and exit 130; the same command with --resume goes on', async () => {
  const child = start(at('stopped.onnx'), ['--epochs', '500', '--checkpoint-steps', '1'])
  const end = ended(child)
  await appears(at('stopped.checkpoint.onnx'), child)
  child.kill('SIGINT')
  const { code, err } = await end
  assert.equal(code, 130)
  const said = /interrupted after (\d+) steps; checkpoint in .*--resume/.exec(err)
  assert.ok(said, err)
  const position = JSON.parse((await readModel(at('stopped.checkpoint.onnx'))).metadata.get('mnc.training')!)
  assert.equal(position.step, Number(said[1]))
  assert.ok(!existsSync(at('stopped.onnx')))
})
