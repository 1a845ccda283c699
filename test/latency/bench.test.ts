import assert from 'node:assert/strict'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, before, test } from 'node:test'
import { writeModel } from '../../src/codec/codec.ts'
import { parseModel } from '../../src/codec/text-parse.ts'
import { runCommandLine } from '../../src/commands/program.ts'
import { profileOf } from '../../src/latency/operators.ts'
import { Sink } from '../cli/sink.ts'

const folder = mkdtempSync(join(tmpdir(), 'mnc-bench-'))
after(() => rmSync(folder, { recursive: true }))
const at = (name: string): string => join(folder, name)

const net = (batch: string, layers: number): string => {
  const lines = Array.from({ length: layers }, (_, i) => `  %h${i + 1} = Gelu(%h${i})`)
  return `onnx {ir_version=10}
opset ai.onnx=21
graph "g"
  input %h0 : float32[${batch},64,64]
${lines.join('\n')}
  %y : float32[${batch},64,64] = Relu(%h${layers})
  output %y
end
`
}

before(async () => {
  await writeModel(parseModel(net('N', 1)), at('short.onnx'))
  await writeModel(parseModel(net('N', 40)), at('long.onnx'))
  await writeModel(parseModel(net('2', 1)), at('two.onnx'))
})

async function run(...args: string[]): Promise<{ code: number; stdout: string; stderr: string }> {
  const [stdout, stderr] = [new Sink(), new Sink()]
  const code = await runCommandLine(['bench', ...args], { stdout, stderr })
  return { code, stdout: stdout.text, stderr: stderr.text }
}

test('each model is measured in each setting, against the first', async () => {
  const flags = ['--seconds', '0.2', '--threads', '1,0', '--batch', '1,4', '--json']
  const { code, stdout } = await run(at('long.onnx'), at('short.onnx'), ...flags)
  assert.equal(code, 0)
  const { settings } = JSON.parse(stdout)
  assert.deepEqual(
    settings.map((s: { threads: number; batch: number }) => [s.threads, s.batch]),
    [
      [1, 1],
      [1, 4],
      [0, 1],
      [0, 4],
    ],
  )
  for (const { threads, batch, models } of settings) {
    const [long, short] = models
    assert.deepEqual([long.batch, short.batch, long.speedup, long.withinNoise], [batch, batch, null, null])
    for (const { latency, runs, throughput } of models) {
      assert.ok(latency.low <= latency.median && latency.median <= latency.high && runs >= 11)
      assert.ok(Math.abs(throughput - (batch * 1000) / latency.median) < 1e-6)
    }
    // forty times the work: no machine is so busy, unless several threads wait for each other
    if (threads === 1) assert.ok(short.speedup.median > 1, JSON.stringify(short))
  }
})

test('a model of one batch is measured at it, and the table says so', async () => {
  const { code, stdout } = await run(at('short.onnx'), at('two.onnx'), '--seconds', '0.1', '--batch', '4')
  assert.equal(code, 0)
  assert.match(stdout, /^1 thread, batch 4\n/)
  assert.match(stdout, /two\.onnx\s+batch 2 /)
})

test('--profile names operators and nodes', async () => {
  const { code, stdout } = await run(at('long.onnx'), '--seconds', '0.1', '--profile', '--json')
  assert.equal(code, 0)
  const [{ operators, nodes }] = JSON.parse(stdout).profiles
  const total = (list: { share: number }[]): number => list.reduce((n, o) => n + o.share, 0)
  assert.equal(operators[0].name, 'Gelu')
  assert.equal(operators[0].nodes, 40)
  assert.equal(nodes.length, 41)
  for (const list of [operators, nodes]) assert.ok(Math.abs(total(list) - 1) < 1e-9)
})

test('a profile counts the last runs, every kernel once per run', () => {
  const event = (run: number, name: string, dur: number) => ({
    ...{ cat: 'Node', name: `${name}_kernel_time`, dur, ts: run * 1000 + 1, args: { op_name: name } },
  })
  const events = Array.from({ length: 13 }, (_, run) => [
    { cat: 'Session', name: 'model_run', ts: run * 1000, dur: 900 },
    // the first three runs are slow
    event(run, 'Conv', run < 3 ? 500 : 30),
    event(run, 'Relu', 10),
  ]).flat()
  assert.deepEqual(profileOf(JSON.stringify(events)).operators, [
    { name: 'Conv', nodes: 1, ms: 0.03, share: 0.75 },
    { name: 'Relu', nodes: 1, ms: 0.01, share: 0.25 },
  ])
})

test('bad numbers and standard input are usage errors', async () => {
  for (const [flags, reason] of [
    [['--threads', '1.5'], /--threads 1\.5: 1\.5 is not a whole number/],
    [['--batch', '0'], /--batch 0: 0 is not a whole number of at least 1/],
    [['--seconds', '0'], /--seconds must be > 0/],
  ] as const) {
    const { code, stderr } = await run(at('short.onnx'), ...flags)
    assert.equal(code, 2)
    assert.match(stderr, reason)
  }
  assert.equal((await run('-')).code, 2)
  assert.equal((await run(at('missing.onnx'))).code, 2)
})
