/** The report of a run: what it says, and how it looks in a browser (skipped where there is no Chromium). */
import assert from 'node:assert/strict'
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import test, { after } from 'node:test'
import { pathToFileURL } from 'node:url'
import { chromium } from 'playwright-core'
import { CommandIO } from '../../src/commands/io.ts'
import { report } from '../../src/commands/report.ts'
import { parseRecipe } from '../../src/recipes/load.ts'
import { reportPage } from '../../src/recipes/report.ts'
import { reportFacts } from '../../src/recipes/report-facts.ts'
import { runRecipe } from '../../src/recipes/run.ts'
import { Sink } from '../cli/sink.ts'

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

test('the page: everything inside, nothing fetched, no script, text escaped', async () => {
  const facts = await made
  const html = await reportPage(facts)
  assert.match(html, /<h1>a &lt;b&gt; &amp; &quot;c&quot;<\/h1>/)
  assert.ok(!/<script|<link|<img|@import|url\((?!#)|https?:/.test(html))
  const headings = [...html.matchAll(/<h2>(.*?)<\/h2>/g)].map((m) => m[1])
  assert.deepEqual(headings, [
    ...['Accuracy by stage', 'Size and score by stage', 'Stages', 'Loss', 'Layers of small', 'Weights of small'],
    ...['Checks', 'What made it'],
  ])
  // 3 for the stages, 2 loss curves, 2 for the layers, 1 for each of 5 weights
  assert.equal(html.match(/<svg role="img" aria-label="/g)?.length, 3 + 2 + 2 + 5)
  const { top1 } = facts.stages[2]!.record.metrics!.eval!
  assert.ok(html.includes(`>${(top1 * 100).toFixed(1)}</text>`), 'the bar of the last stage has its number')
  assert.equal((await reportPage(await reportFacts(folder))).replace(/zr\d+/g, ''), html.replace(/zr\d+/g, ''))
})

test('the command writes the page into the work folder; a folder without a run is refused', async () => {
  const [out, err] = [new Sink(), new Sink()]
  const io = new CommandIO({ json: true, quiet: false, verbose: false, seed: 0 }, out, err)
  await made
  await report.run([folder], { output: undefined }, io)
  const path = join(folder, 'report.html')
  assert.deepEqual(JSON.parse(out.text), {
    ...{ output: path, recipe: recipe.name, stages: ['zz-dense', 'small', 'packed'] },
  })
  assert.ok(readFileSync(path, 'utf8').endsWith('</html>\n'))
  const empty = mkdtempSync(join(tmpdir(), 'mnc-empty-'))
  writeFileSync(join(empty, 'other.json'), '{"key": 1}')
  await assert.rejects(report.run([empty], { output: undefined }, io), { blame: 'user', message: /no finished stage/ })
  assert.ok(!existsSync(join(empty, 'report.html')))
  rmSync(empty, { recursive: true })
  await assert.rejects(report.run([join(empty, 'nowhere')], { output: undefined }, io), { blame: 'user' })
})

const browser = [process.env.CHROMIUM ?? '', '/usr/bin/chromium', '/usr/bin/chromium-browser', '/usr/bin/google-chrome']
  .filter((p) => p !== '')
  .find((p) => existsSync(p))

/** WCAG contrast of two `rgb(r, g, b)` colours. */
function contrast(a: string, b: string): number {
  const luminance = (color: string): number => {
    const parts = (color.match(/[\d.]+/g) ?? []).slice(0, 3).map((c) => Number(c) / 255)
    const [r, g, bl] = parts.map((c) => (c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4))
    return 0.2126 * r! + 0.7152 * g! + 0.0722 * bl!
  }
  const [hi, lo] = [luminance(a), luminance(b)].sort((x, y) => y - x)
  return (hi! + 0.05) / (lo! + 0.05)
}

interface Seen {
  readonly back: string
  readonly scroll: number
  readonly text: readonly string[]
  readonly boxes: readonly number[]
  readonly bars: readonly string[]
}

/** Runs in the page (by the debugger, although the page may run no script). */
const LOOK = `(() => {
  const all = (what) => [...document.querySelectorAll(what)]
  const style = (e) => getComputedStyle(e)
  return {
    back: style(document.body).backgroundColor,
    scroll: document.documentElement.scrollWidth,
    text: all('svg text, p, th, td, figcaption').map((e) => style(e)[e.closest('svg') ? 'fill' : 'color']),
    boxes: all('svg').map((e) => e.getBoundingClientRect()).map((r) => r.width * r.height),
    bars: all('svg path[fill="var(--one)"]').map((e) => style(e).fill),
  }
})()`

test('in Chromium without JavaScript: light, dark, wide and narrow', async (t) => {
  if (!browser) return t.skip('no chromium')
  await made
  const path = join(folder, 'shown.html')
  writeFileSync(path, await reportPage(await made))
  const root = process.getuid?.() === 0
  const chrome = await chromium.launch({ executablePath: browser, args: root ? ['--no-sandbox'] : [] })
  try {
    const backs = new Set<string>()
    for (const colorScheme of ['light', 'dark'] as const)
      for (const width of [1000, 390]) {
        const context = await chrome.newContext({
          ...{ colorScheme, javaScriptEnabled: false, viewport: { width, height: 800 } },
        })
        const page = await context.newPage()
        const requests: string[] = []
        page.on('request', (r) => requests.push(r.url()))
        await page.goto(pathToFileURL(path).href)
        const seen = await page.evaluate<Seen>(LOOK)
        const where = `${colorScheme}, ${width} px`
        assert.equal(requests.length, 1, where)
        assert.ok(seen.scroll <= width, `${where}: the page is ${seen.scroll} wide`)
        assert.equal(seen.boxes.length, 12)
        assert.ok(
          seen.boxes.every((area) => area > 5000),
          `${where}: ${seen.boxes}`,
        )
        assert.ok(seen.text.length > 200)
        for (const c of seen.text) assert.ok(contrast(c!, seen.back) >= 4.5, `${where}: ${c} on ${seen.back}`)
        assert.ok(seen.bars.length > 20)
        for (const c of seen.bars) assert.ok(contrast(c, seen.back) >= 3, `${where}: ${c} on ${seen.back}`)
        backs.add(seen.back)
        await context.close()
      }
    assert.equal(backs.size, 2, 'dark is another page than light')
  } finally {
    await chrome.close()
  }
})
