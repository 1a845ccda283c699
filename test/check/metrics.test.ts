/** Metrics of a check: both models measured, by commands and recipes, built-in ones and the user's own, with a gate. */
import assert from 'node:assert/strict'
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import test, { after } from 'node:test'
import { writeModel } from '../../src/codec/codec.ts'
import { parseModel } from '../../src/codec/text-parse.ts'
import { mnc } from '../cli/run-mnc.ts'
import { npy, npz } from '../support/data-files.ts'

const folder = mkdtempSync(join(tmpdir(), 'mnc-check-metrics-'))
after(() => rmSync(folder, { recursive: true }))
const at = (name: string): string => join(folder, name)

/** y = x + shift. */
const shifted = async (name: string, shift: number): Promise<string> => {
  const text = `onnx {ir_version=10}
opset ai.onnx=21
graph "g"
  input %x : float32[N,4]
  init %b = float32[1] [${shift}]
  %y : float32[N,4] = Add(%x, %b)
  output %y
end
`
  await writeModel(parseModel(text), at(name))
  return at(name)
}
const exact = await shifted('exact.onnx', 0)
const off = await shifted('off.onnx', 0.1)
const COUNT = 12
const x = Float32Array.from({ length: 4 * COUNT }, (_, i) => Math.sin(i) + 2)
const rows = npy(x, [COUNT, 4])
const withTargets = at('targets.npz')
const inputsOnly = at('inputs.npz')
writeFileSync(withTargets, npz({ x: rows, y: rows }))
writeFileSync(inputsOnly, npz({ x: rows }))
writeFileSync(
  at('mnc.config.mjs'),
  `export default { metrics: [{
    name: 'worst', summary: 'the largest error', better: 'lower', against: 'values',
    start() {
      let worst = 0
      return {
        add({ got, want }) { for (let i = 0; i < want.length; i++) worst = Math.max(worst, Math.abs(got[i] - want[i])) },
        result: () => ({ value: worst }),
      }
    },
  }] }`,
)
const near = (a: number, b: number): void => assert.ok(Math.abs(a - b) < 1e-5, `${a} ${b}`)

test('both models are measured against what the data hold, or against the reference', async () => {
  for (const data of [withTargets, inputsOnly]) {
    const words = ['--json', 'check', exact, off, '--data', `npz:${data}`, '--metric', 'mse,cosine,worst']
    const { code, out, err } = await mnc(...words)
    assert.equal(code, 0, err)
    const { metrics } = JSON.parse(out)
    near(metrics.mse.reference, 0)
    near(metrics.mse.model, 0.01)
    near(metrics.mse.worse, 0.01)
    near(metrics.worst.worse, 0.1)
    near(metrics.cosine.reference, 1)
    const cosine = (row: number): number => {
      const own = x.subarray(4 * row, 4 * row + 4)
      const other = own.map((v) => v + 0.1)
      const dot = (a: Float32Array, b: Float32Array): number => a.reduce((sum, v, i) => sum + v * b[i]!, 0)
      return dot(own, other) / Math.sqrt(dot(own, own) * dot(other, other))
    }
    const mean = Array.from({ length: COUNT }, (_, i) => cosine(i)).reduce((a, b) => a + b) / COUNT
    near(metrics.cosine.worse, 1 - mean)
  }
  // the other way round the model is better
  const { out } = await mnc('--json', 'check', off, exact, '--data', `npz:${withTargets}`, '--metric', 'mse')
  near(JSON.parse(out).metrics.mse.worse, -0.01)
  const shown = await mnc('check', exact, off, '--data', `npz:${withTargets}`, '--metric', 'mse')
  assert.match(shown.out, /metric +reference +model +worse by\nmse +0 +0\.01 +0\.01/)
})

test('a metric that is worse by more than it may is a failed gate', async () => {
  const gate = (bound: string, metric = 'mse') =>
    mnc('check', exact, off, '--data', `npz:${withTargets}`, '--metric', metric, '--max-worse', bound)
  assert.equal((await gate('0.011')).code, 0)
  const failed = await gate('0.009')
  assert.equal(failed.code, 3)
  assert.match(
    failed.err,
    /off\.onnx: mse is 0\.01, and the reference's 0: worse by 0\.01, more than --max-worse 0\.009/,
  )
  assert.equal((await gate('0.05', 'mse,worst')).code, 3)
})

test('shares give the document of a single run, own metrics and the gate included', async () => {
  const shares = (words: readonly string[]): Promise<string[]> =>
    Promise.all(
      [3, 1, 2].map(async (share) => {
        const part = at(`part.${share}.json`)
        const { code, err } = await mnc(...words, '--shard', `${share}/3`, '--part', part)
        assert.equal(code, 0, err)
        return part
      }),
    )
  for (const data of [withTargets, inputsOnly]) {
    const words = ['check', exact, off, '--data', `npz:${data}`, '--metric', 'mse,worst', '--batch', '5']
    const whole = await mnc('--json', ...words)
    const joined = await mnc('--json', 'merge', ...(await shares(words)))
    assert.equal(joined.out, whole.out)
    near(JSON.parse(joined.out).metrics.worst.worse, 0.1)
    const gated = await shares([...words, '--max-worse', '0.05'])
    const { code, err } = await mnc('merge', ...gated)
    assert.equal(code, 3)
    assert.match(err, /worst is 0\.1, and the reference's 0: worse by 0\.1/)
    await mnc(...words, '--shard', '1/3', '--part', gated[0]!)
    assert.match((await mnc('merge', ...gated)).err, /maxWorse/)
  }
})

test('what cannot be measured is refused', async () => {
  const data = ['--data', `npz:${withTargets}`]
  for (const [words, reason] of [
    [['--max-worse', '1', ...data], /--max-worse is about --metric/],
    [['--metric', 'mse'], /--metric needs --data/],
    [['--metric', 'msee', ...data], /no metric 'msee'.*did you mean 'mse'/s],
    [['--metric', 'worst', '--max-worse', '-1', ...data], /max-worse/],
    [['--metric', 'accuracy', ...data], /has no labels/],
    [['--metric', 'psnr', ...data], /--metric psnr: the reference's is Infinity/],
  ] as const) {
    const { code, err } = await mnc('check', exact, off, ...words)
    assert.equal(code, 2, `${words.join(' ')}: ${err}`)
    assert.match(err, reason)
  }
})

test('a recipe measures and gates, and refuses what there is not before its first stage', async () => {
  const recipe = (check: object, evaluate: object = { metric: ['mse'] }): string => {
    const stages = [{ name: 'copy', from: off, eval: evaluate, check: [{ against: exact, ...check }] }]
    writeFileSync(at('recipe.json'), JSON.stringify({ name: 'metrics', data: `npz:${withTargets}`, stages }))
    return at('recipe.json')
  }
  const run = (path: string) => mnc('--json', '--config', at('mnc.config.mjs'), 'run', path, '--workdir', at('work'))
  const good = await run(recipe({ metric: ['mse', 'worst'], 'max-worse': 0.2 }))
  assert.equal(good.code, 0, good.err)
  near(JSON.parse(good.out).stages[0].metrics.checks[0].result.metrics.worst.worse, 0.1)
  assert.equal((await mnc('report', at('work'), '-o', at('report.html'))).code, 0)
  assert.match(readFileSync(at('report.html'), 'utf8'), /worst<[\s\S]*worse &#60;= 0\.2|worst<[\s\S]*worse &lt;= 0\.2/)
  const bad = await run(recipe({ metric: ['mse', 'worst'], 'max-worse': 0.05 }))
  assert.equal(bad.code, 3)
  assert.match(bad.err, /worst is 0\.1, and the reference's 0: worse by 0\.1, more than --max-worse 0\.05/)
  rmSync(at('work'), { recursive: true })
  for (const [check, evaluate, reason] of [
    [{ metric: ['wurst'] }, undefined, /stage 'copy': --metric: there is no metric 'wurst'.*did you mean 'worst'/s],
    [{ 'max-worse': 1 }, undefined, /stage 'copy': --max-worse is about --metric/],
    [{}, { metric: ['mze'] }, /stage 'copy': --metric: there is no metric 'mze'.*did you mean 'mse'/s],
  ] as const) {
    const { code, err } = await run(recipe(check, evaluate))
    assert.equal(code, 2, err)
    assert.match(err.replace(/\s+/g, ' '), reason)
  }
})
