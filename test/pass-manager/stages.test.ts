import assert from 'node:assert/strict'
import { mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, test } from 'node:test'
import { MncError, modelError } from '../../src/base/errors.ts'
import { writeModel } from '../../src/codec/codec.ts'
import { runCommandLine } from '../../src/commands/program.ts'
import { cloneModel } from '../../src/graph/clone.ts'
import { dumpStages, runStages, type Stage, type StageContext, watchStages } from '../../src/pass-manager/stages.ts'
import { runPass } from '../../src/passes/run-pass.ts'
import { Sink } from '../cli/sink.ts'
import { randomGraph } from '../support/random-graph.ts'
import { tinyNet } from '../train/fixtures.ts'

const folder = mkdtempSync(join(tmpdir(), 'mnc-stages-'))
after(() => rmSync(folder, { recursive: true }))

const model = randomGraph(3, {})
const stagesOf = (...stages: Stage<StageContext>[]) => stages
const run = (stages: readonly Stage<StageContext>[]) => runStages('line', stages, { model: cloneModel(model) })
const ok: Stage<StageContext> = { name: 'ok', run: () => {} }

test('stages run in order, and a watcher is told of each one before the next begins', async () => {
  const seen: string[] = []
  const stages = ['a', 'b', 'c'].map((name) => ({ name, run: async () => void seen.push(name) }))
  await watchStages(
    async ({ pipeline, stage }) => void seen.push(`${pipeline}/${stage}`),
    () => run(stages),
  )
  assert.deepEqual(seen, ['a', 'line/a', 'b', 'line/b', 'c', 'line/c'])
})

test('passes inside a stage are stages of their own, and are reported first', async () => {
  const seen: string[] = []
  const fold = { name: 'fold', run: (c: StageContext) => runPass(c.model, 'eliminate-dead') }
  await watchStages(
    ({ pipeline, stage }) => void seen.push(`${pipeline}/${stage}`),
    () => run([fold]),
  )
  assert.deepEqual(seen, ['pass/eliminate-dead', 'line/fold'])
})

test('an error names the innermost stage that it came from, whatever the blame', async () => {
  const bad = (error: Error): Stage<StageContext> => ({
    name: 'bad',
    run: () => {
      throw error
    },
  })
  const outer: Stage<StageContext> = {
    name: 'outer',
    run: () => run(stagesOf(ok, bad(modelError('x', 'no such thing')))),
  }
  await assert.rejects(runStages('around', [outer], { model: cloneModel(model) }), (e: unknown) => {
    assert.ok(e instanceof MncError)
    assert.equal(e.stage, 'line/bad')
    assert.equal(e.inFile('m.onnx').describe(), 'm.onnx: no such thing [line/bad]')
    return true
  })
  await assert.rejects(run([bad(new TypeError('odd'))]), { name: 'TypeError', stage: 'line/bad' })
})

test('a stage that breaks the graph is named, not the one after it', async () => {
  const breaker: Stage<StageContext> = {
    name: 'breaker',
    run: ({ model: { graph } }) => graph.move([...graph.nodes()].at(-1)!, [...graph.nodes()][0]!),
  }
  await assert.rejects(run([ok, breaker, ok]), (e: unknown) => {
    assert.ok(e instanceof MncError)
    assert.equal(e.blame, 'pass')
    assert.match(e.describe(), /line\/breaker left a broken graph/)
    return true
  })
})

test('--dump-stages writes the model after every stage of an export, pass or training step', async () => {
  const [file, out] = [join(folder, 'm.onnx'), join(folder, 'out.onnx')]
  await writeModel(model, file)
  const dumped = async (name: string, ...args: string[]): Promise<string[]> => {
    const dir = join(folder, name)
    const [stdout, stderr] = [new Sink(), new Sink()]
    const code = await runCommandLine([...args, '--dump-stages', dir], { stdout, stderr })
    assert.equal(code, 0, stderr.text)
    const files = readdirSync(dir).sort()
    for (const f of files) assert.match(readFileSync(join(dir, f), 'utf8'), /^\/\/ .* ms, \d+ nodes\nonnx /)
    return files.map((f) => f.replace(/^\d+-|\.txt$/g, ''))
  }
  assert.deepEqual(await dumped('pass', 'pass', 'eliminate-dead', file, '-o', out), ['pass-eliminate-dead'])
  const int8 = await dumped('int8', 'export', file, '--format', 'int8', '--allow-larger', '-o', out)
  assert.equal(int8[0], 'export-settle-overridable')
  assert.ok(int8.includes('export-arrange-integers'))
  assert.equal(
    new Set(int8.filter((f) => f.startsWith('export-'))).size,
    int8.filter((f) => f.startsWith('export-')).length,
  )
  const [net, teacher] = [join(folder, 'net.onnx'), join(folder, 'teacher.onnx')]
  await writeModel(tinyNet(), net)
  await writeModel(tinyNet(1), teacher)
  const taught = ['--data', 'random', '--teacher', teacher, '--batch', '2', '--max-steps', '1', '-o', out]
  const step = (await dumped('train', 'train', net, ...taught)).filter((f) => f.startsWith('step-'))
  const at = ['free-names', 'join-teacher', 'emit-loss', 'emit-backward', 'remove-dead'].map((n) =>
    step.indexOf(`step-${n}`),
  )
  assert.equal(at[0], 0)
  assert.deepEqual(
    at,
    at.toSorted((a, b) => a - b),
  )
  assert.equal(new Set(step).size, step.length)
})

test('a dump that cannot be written ends the work with the name of the file', async () => {
  await assert.rejects(
    watchStages(dumpStages('/dev/null/dump'), () => run([ok])),
    /\/dev\/null\/dump/,
  )
})
