/** A scan as an SVG chart: layers from left to right, one line for each setting, the unchanged model dashed. */
import { byName, type Point } from './point.ts'
import type { Sensitivity } from './sensitivity.ts'

/** Colour-blind safe (Okabe and Ito). */
const COLOURS = ['#0072b2', '#56b4e9', '#009e73', '#e69f00', '#d55e00', '#cc79a7', '#777777', '#000000']
const PER_LAYER = 26
const HEIGHT = 320
const MARGIN = { left: 64, right: 150, top: 40, bottom: 170 }
const TICKS = 5

const titles = { accuracy: 'top-1, %', loss: 'cross entropy, nats', sqnr: 'SQNR, dB' } as const

/** A scan as a drawing (SVG): a curve for each setting, over the layers. */
export function sensitivityPlot(r: Sensitivity, title: string): string {
  const { layers, points, metric } = r
  const scale = metric === 'accuracy' ? 100 : 1
  const values = points.flatMap((p) => (p.value === null ? [] : [p.value * scale]))
  const shown = metric === 'sqnr' ? values : [...values, r.baseline * scale]
  const [least, most] = limits(shown)
  const width = MARGIN.left + Math.max(8, layers.length) * PER_LAYER + MARGIN.right
  const right = width - MARGIN.right
  const x = (i: number): number => MARGIN.left + (i + 0.5) * PER_LAYER
  const y = (v: number): number => round(MARGIN.top + (HEIGHT * (most - v)) / (most - least))
  const parts = [
    text(MARGIN.left, 22, title, 'font-size="14"'),
    text(MARGIN.left, MARGIN.top - 4, titles[metric], 'fill="#555"'),
  ]
  for (let k = 0; k <= TICKS; k++) {
    const v = least + ((most - least) * k) / TICKS
    parts.push(`<line x1="${MARGIN.left}" x2="${right}" y1="${y(v)}" y2="${y(v)}" stroke="#ddd"/>`)
    parts.push(text(MARGIN.left - 6, y(v) + 4, String(Number(v.toPrecision(3))), 'text-anchor="end"'))
  }
  if (metric !== 'sqnr') {
    const at = y(r.baseline * scale)
    parts.push(`<line x1="${MARGIN.left}" x2="${right}" y1="${at}" y2="${at}" stroke="#000" stroke-dasharray="4 3"/>`)
    parts.push(text(right + 8, at + 4, 'unchanged', ''))
  }
  const index = new Map(layers.map((l, i) => [l.name, i]))
  for (const [name, i] of index)
    parts.push(
      text(0, 0, name, `text-anchor="end" transform="translate(${x(i) + 4},${MARGIN.top + HEIGHT + 12}) rotate(-60)"`),
    )
  for (const [k, [name, line]] of [...byName(points)].entries()) {
    const colour = COLOURS[k % COLOURS.length]!
    const seen = line.flatMap((p) => (p.value === null ? [] : [{ ...p, value: p.value * scale }]))
    const at = (p: Point & { value: number }): string => `${x(index.get(p.layer)!)},${y(p.value)}`
    parts.push(`<polyline fill="none" stroke="${colour}" stroke-width="1.5" points="${seen.map(at).join(' ')}"/>`)
    for (const p of seen) {
      const [cx, cy] = at(p).split(',')
      const note = `${p.layer}, ${name}: ${Number(p.value.toPrecision(5))}`
      parts.push(`<circle cx="${cx}" cy="${cy}" r="3" fill="${colour}"><title>${escaped(note)}</title></circle>`)
    }
    const row = MARGIN.top + 24 + 18 * k
    parts.push(`<rect x="${right + 10}" y="${row - 9}" width="10" height="10" fill="${colour}"/>`)
    parts.push(text(right + 26, row, name, ''))
  }
  const size = `width="${width}" height="${MARGIN.top + HEIGHT + MARGIN.bottom}"`
  const style = 'font-family="sans-serif" font-size="11"'
  const background = '<rect width="100%" height="100%" fill="#fff"/>'
  return `<svg xmlns="http://www.w3.org/2000/svg" ${size} ${style}>\n${[background, ...parts].join('\n')}\n</svg>\n`
}

/** Leaves room above and below; never an empty range. */
function limits(values: readonly number[]): readonly [number, number] {
  const [least, most] = values.length === 0 ? [0, 1] : [Math.min(...values), Math.max(...values)]
  const room = (most - least) * 0.05 || Math.abs(most) * 0.05 || 1
  return [least - room, most + room]
}

const round = (v: number): number => Math.round(v * 10) / 10

const text = (x: number, y: number, content: string, attributes: string): string =>
  `<text x="${x}" y="${y}" ${attributes}>${escaped(content)}</text>`

const entities: Readonly<Record<string, string>> = { '&': '&amp;', '<': '&lt;', '>': '&gt;', '"': '&quot;' }
const escaped = (s: string): string => s.replace(/[&<>"]/g, (c) => entities[c]!)
