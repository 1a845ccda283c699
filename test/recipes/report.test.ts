/** The report of a run: what it says, and how it looks in a browser (skipped where there is no Chromium). */
import assert from 'node:assert/strict'
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import test, { after } from 'node:test'
import { CommandIO } from '../../src/commands/io.ts'
import { report } from '../../src/commands/report.ts'
import { parseRecipe } from '../../src/recipes/load.ts'
import { reportPage } from '../../src/recipes/report.ts'
import { reportFacts } from '../../src/recipes/report-facts.ts'
import { runRecipe } from '../../src/recipes/run.ts'
import { Sink } from '../cli/sink.ts'
import { assertLooks, browser } from '../support/page-looks.ts'

const folder = mkdtempSync(join(tmpdir(), 'mnc-report-'))
after(() => rmSync(folder, { recursive: true }))

const recipe = {
  ...{ name: 'a <b> & "c"', data: 'embedded' },
  defaults: { train: { 'max-steps': 4, batch: 16, limit: 64, augment: 'none', lr: 0.02 }, eval: { limit: 50 } },
  stages: [
    { name: 'zz-dense', build: { family: 'lenet', size: 28, channels: 1 }, train: {} },
    {
      ...{ name: 'small', from: 'zz-dense', teacher: 'zz-dense', train: { loss: 'kl' } },
      passes: [{ prune: { sparsity: 0.5, ops: ['Conv', 'Gemm'] } }, { quantize: { ops: ['Conv', 'Gemm'], limit: 32 } }],
    },
    { name: 'packed', from: 'small', export: {}, check: [{ limit: 50, 'max-drop': 0.5 }] },
  ],
}
const made = (async () => {
  await runRecipe(await parseRecipe(recipe), { workdir: folder })
  return reportFacts(folder)
})()

test('facts: stages in order, losses, scores, the layers of the graph before the export', async () => {
  const { stages, detail } = await made
  assert.deepEqual(
    stages.map((s) => [s.name, s.from, s.losses.length]),
    [
      ['zz-dense', null, 4],
      ['small', 'zz-dense', 4],
      ['packed', 'small', 0],
    ],
  )
  // half of the weights at 4 bits and a mask bit for each: 3 of 32 bits, and the steps
  const share = stages[2]!.score!.storageScore / stages[0]!.score!.storageScore
  assert.ok(share > 3 / 32 - 0.01 && share < 3 / 32 + 0.02, `${share}`)
  assert.equal(detail.stage, 'small')
  for (const h of detail.histograms) {
    const size = h.shape.reduce((n, d) => n * d, 1)
    assert.equal(
      h.counts.reduce((n, c) => n + c, 0),
      size - Math.round(h.sparsity * size),
      h.layer,
    )
  }
  assert.equal(detail.histograms[0]!.counts[20], 0, 'zeros are in no bin')
})

test('against the baseline: size as it deploys, change with its interval, latency, how far outputs of layers are', async () => {
  const { baseline, stages, detail, latency } = await reportFacts(folder, { seconds: 0.05 })
  assert.equal(baseline.name, 'zz-dense')
  const bytes = (name: string): number => readFileSync(join(folder, `${name}.onnx`)).length
  const [dense, small, packed] = stages
  assert.deepEqual(
    [dense!.deployed, packed!.deployed],
    [
      { bytes: bytes('zz-dense'), as: null },
      { bytes: bytes('packed'), as: 'packed' },
    ],
  )
  // masks and latent weights are not deployed
  assert.equal(small!.deployed!.as, 'packed')
  assert.ok(small!.deployed!.bytes < bytes('small') / 3 && small!.deployed!.bytes < 1.1 * bytes('packed'))
  assert.deepEqual(
    latency.map((l) => [l.stage, l.speedup !== null, l.latency.low <= l.latency.median]),
    [
      ['zz-dense', false, true],
      ['packed', true, true],
    ],
  )
  assert.deepEqual((await made).latency, [], 'measured on request alone')
  const { against, on, layers } = detail.errors!
  assert.deepEqual([against, /^32 samples of /.test(on)], ['zz-dense', true])
  assert.deepEqual(layers.map((l) => l.op).sort(), ['Conv', 'Conv', 'Gemm', 'Gemm', 'Gemm'])
  assert.ok(layers.every((l) => l.sqnr > -5 && l.sqnr < 40))

  const html = await reportPage(await reportFacts(folder, { seconds: 0.05 }))
  const table = html.split('<h2>Against zz-dense</h2>')[1]!.split('</table>')[0]!
  const cells = table
    .split('<tr>')
    .slice(1)
    .map((r) => [...r.matchAll(/<t[hd][^>]*>(.*?)<\/t[hd]>/g)].map((m) => m[1]!))
  assert.deepEqual(cells[0], [
    ...['stage', 'top-1', '95 %', 'change, points', '95 %', 'deploys as', 'bytes', 'times smaller', 'ms', '95 %'],
    ...['times as fast', '95 %'],
  ])
  const row = cells.find((c) => c[0] === 'packed')!
  const [before, after] = [dense!, packed!].map((s) => s.record.metrics!.eval!.top1)
  const change = 100 * (after! - before!)
  assert.equal(row[3], `${change < 0 ? '−' : '+'}${Math.abs(change).toFixed(2)}`)
  assert.match(row[2]!, /^[\d.]+ % to [\d.]+ %$/)
  assert.equal(row[7], String(Number((bytes('zz-dense') / bytes('packed')).toPrecision(3))))
  assert.match(html, new RegExp(`${row[7]} times smaller`))
})

test('the page: everything inside, nothing fetched, no script, text escaped', async () => {
  const facts = await made
  const html = await reportPage(facts)
  assert.match(html, /<h1>a &lt;b&gt; &amp; &quot;c&quot;<\/h1>/)
  assert.ok(!/<script|<link|<img|@import|url\((?!#)|https?:/.test(html))
  const headings = [...html.matchAll(/<h2>(.*?)<\/h2>/g)].map((m) => m[1])
  assert.deepEqual(headings, [
    ...['Accuracy by stage', 'Size and score by stage', 'Against zz-dense', 'Stages', 'Loss', 'Layers of small'],
    ...['Outputs of layers of small', 'Weights of small', 'Checks', 'What made it'],
  ])
  // 3 for the stages, 2 loss curves, 2 for the layers and 1 for their outputs, 1 for each of 5 weights
  assert.equal(html.match(/<svg role="img" aria-label="/g)?.length, 3 + 2 + 3 + 5)
  const { top1 } = facts.stages[2]!.record.metrics!.eval!
  assert.ok(html.includes(`>${(top1 * 100).toFixed(1)}</text>`), 'the bar of the last stage has its number')
  assert.equal((await reportPage(await reportFacts(folder))).replace(/zr\d+/g, ''), html.replace(/zr\d+/g, ''))
})

test('the command writes the page into the work folder; a folder without a run is refused', async () => {
  const [out, err] = [new Sink(), new Sink()]
  const io = new CommandIO({ json: true, quiet: false, verbose: false, seed: 0 }, out, err)
  await made
  await report.run([folder], { output: undefined, seconds: 0.05 }, io)
  const path = join(folder, 'report.html')
  assert.deepEqual(JSON.parse(out.text), {
    ...{ output: path, recipe: recipe.name, stages: ['zz-dense', 'small', 'packed'] },
  })
  assert.ok(readFileSync(path, 'utf8').endsWith('</html>\n'))
  const empty = mkdtempSync(join(tmpdir(), 'mnc-empty-'))
  writeFileSync(join(empty, 'other.json'), '{"key": 1}')
  await assert.rejects(report.run([empty], { output: undefined, seconds: 0 }, io), {
    blame: 'user',
    message: /no finished stage/,
  })
  assert.ok(!existsSync(join(empty, 'report.html')))
  rmSync(empty, { recursive: true })
  await assert.rejects(report.run([join(empty, 'nowhere')], { output: undefined, seconds: 0 }, io), { blame: 'user' })
})

test('in Chromium without JavaScript: light, dark, wide and narrow', async (t) => {
  if (!browser) return t.skip('no chromium')
  await made
  const path = join(folder, 'shown.html')
  writeFileSync(path, await reportPage(await reportFacts(folder, { seconds: 0.05 })))
  const titles = [
    ...['stage', 'top-1, %', 'size, kB', 'share of the reference', 'latency, ms', 'step', 'loss', 'layer'],
    ...['zero weights, %', 'bits', 'SQNR, dB', 'value', 'weights'],
  ]
  await assertLooks(path, { charts: 14, texts: 200, bars: 20, widths: [1400, 1000, 400, 390], titles })
})
