/**
 * How a page looks in a browser: nothing fetched, no wider than its window, legible in light and dark; drawings at their own size,
 * those side by side at one height, axes with titles.
 */
import assert from 'node:assert/strict'
import { existsSync } from 'node:fs'
import { pathToFileURL } from 'node:url'
import { chromium } from 'playwright-core'

/** Of Debian, or what CHROMIUM names; undefined where there is none. */
export const browser = [
  process.env.CHROMIUM ?? '',
  '/usr/bin/chromium',
  '/usr/bin/chromium-browser',
  '/usr/bin/google-chrome',
]
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
  /** Width on the page over that of the drawing. */
  readonly scales: readonly number[]
  /** Of each row of drawings, how far their upper and lower edges are apart. */
  readonly rows: readonly (readonly [top: number, bottom: number])[]
  /** Text of each drawing that stands upright or under its axis: titles among it. */
  readonly words: readonly (readonly string[])[]
  /** Edges of cells of numbers in a column that do not meet. */
  readonly ragged: number
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
    scales: all('svg').map((e) => e.getBoundingClientRect().width / e.viewBox.baseVal.width),
    rows: all('.grid').flatMap((grid) => {
      const boxes = [...grid.querySelectorAll('svg')].map((e) => e.getBoundingClientRect())
      const rows = Map.groupBy(boxes, (b) => Math.round(b.top / 40))
      const apart = (list) => Math.max(...list) - Math.min(...list)
      return [...rows.values()].map((row) => [apart(row.map((b) => b.top)), apart(row.map((b) => b.bottom))])
    }),
    words: all('svg').map((e) => [...e.querySelectorAll('text')].map((t) => t.textContent)),
    ragged: all('table').filter((t) => !t.closest('details')).flatMap((t) => {
      const rows = [...t.tBodies[0].rows].map((r) => [...r.cells])
      return rows[0].map((_, i) => {
        const edges = rows.flatMap((r) => r[i]?.classList.contains('n') ? [r[i].getBoundingClientRect().right] : [])
        return edges.length === 0 ? 0 : Math.max(...edges) - Math.min(...edges)
      })
    }).filter((apart) => apart > 1).length,
  }
})()`

export interface Looks {
  readonly charts: number
  /** At least so many. */
  readonly texts: number
  readonly bars: number
  readonly widths: readonly number[]
  /** Titles of axes: every drawing has two of them. */
  readonly titles: readonly string[]
}

/** The page in a file, without JavaScript, in light and dark at each width. */
export async function assertLooks(path: string, { charts, texts, bars, widths, titles }: Looks): Promise<void> {
  const root = process.getuid?.() === 0
  const chrome = await chromium.launch({ executablePath: browser!, args: root ? ['--no-sandbox'] : [] })
  try {
    const backs = new Set<string>()
    for (const colorScheme of ['light', 'dark'] as const)
      for (const width of widths) {
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
        assert.equal(seen.boxes.length, charts)
        assert.ok(
          seen.boxes.every((area) => area > 5000),
          `${where}: ${seen.boxes}`,
        )
        assert.ok(seen.text.length >= texts)
        for (const c of seen.text) assert.ok(contrast(c!, seen.back) >= 4.5, `${where}: ${c} on ${seen.back}`)
        assert.ok(seen.bars.length >= bars)
        // a drawing made smaller has letters that nobody reads
        assert.ok(Math.min(...seen.scales) > 0.95, `${where}: ${seen.scales}`)
        for (const [top, bottom] of seen.rows) assert.ok(top < 1 && bottom < 1, `${where}: ${top}, ${bottom}`)
        assert.equal(seen.ragged, 0, where)
        for (const words of seen.words)
          assert.ok(words.filter((w) => titles.includes(w)).length >= 2, `${where}: no titles of axes in ${words}`)
        for (const c of seen.bars) assert.ok(contrast(c, seen.back) >= 3, `${where}: ${c} on ${seen.back}`)
        backs.add(seen.back)
        await context.close()
      }
    assert.equal(backs.size, 2, 'dark is another page than light')
  } finally {
    await chrome.close()
  }
}
