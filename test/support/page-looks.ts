/** How a page looks in a browser: nothing fetched, no wider than its window, legible in light and dark. */
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

export interface Looks {
  readonly charts: number
  /** At least so many. */
  readonly texts: number
  readonly bars: number
  readonly widths: readonly number[]
}

/** The page in a file, without JavaScript, in light and dark at each width. */
export async function assertLooks(path: string, { charts, texts, bars, widths }: Looks): Promise<void> {
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
        for (const c of seen.bars) assert.ok(contrast(c, seen.back) >= 3, `${where}: ${c} on ${seen.back}`)
        backs.add(seen.back)
        await context.close()
      }
    assert.equal(backs.size, 2, 'dark is another page than light')
  } finally {
    await chrome.close()
  }
}
