/**
 * Charts of a report as SVG text, drawn by ECharts without a browser. Colours are the page's CSS variables, so that one
 * drawing serves light and dark. This file alone imports echarts.
 */
import { BarChart, CustomChart, LineChart, ScatterChart } from 'echarts/charts'
import { GridComponent, LegendComponent } from 'echarts/components'
import * as echarts from 'echarts/core'
import { SVGRenderer } from 'echarts/renderers'

echarts.use([BarChart, CustomChart, LineChart, ScatterChart, GridComponent, LegendComponent, SVGRenderer])

/** Of a window of 390 pixels without its margins: drawings are not made smaller there, so their text stays legible. */
const WIDTH = 356
/** Of drawings that a narrow window scrolls. */
export const WIDE = 760
const FONT = 12
/** Average width of a character, as a fraction of the font size. */
const CHARACTER = 0.58

export interface Series {
  readonly name: string
  readonly values: readonly (number | null)[]
  /** Text over each bar. */
  readonly labels?: readonly string[]
  /** Ends of a confidence interval. */
  readonly ranges?: readonly (readonly [low: number, high: number])[]
}

/** What the axes show, with units. */
interface Titles {
  readonly x: string
  readonly y: string
}

interface Size {
  readonly width?: number
  readonly height?: number
}

/** One group of bars per category. */
export function bars(
  categories: readonly string[],
  series: readonly Series[],
  { x, y, width = WIDTH, height = 260, max }: Size & Titles & { readonly max?: number },
): string {
  const room = (width - 90) / Math.max(1, categories.length)
  const longest = Math.max(...categories.map((c) => c.length)) * FONT * CHARACTER
  const turned = longest > room - 6
  return draw(width, height, {
    legend: legend(series),
    grid: grid(series, 20 + (turned ? longest * Math.SQRT1_2 + 16 : 26)),
    xAxis: {
      ...axis('category', categories),
      ...titled(x, turned ? longest * Math.SQRT1_2 + 20 : 28),
      axisLabel: { ...label, interval: 0, rotate: turned ? 45 : 0, hideOverlap: false },
      axisTick: { show: false },
    },
    yAxis: {
      ...axis('value'),
      ...titled(y, GAP),
      ...(max !== undefined && { max }),
    },
    series: [
      ...series.map((s) => ({
        ...{ type: 'bar', name: s.name, barMaxWidth: 48, data: barData(s) },
        label: { show: s.labels !== undefined && !s.ranges, position: 'top', ...text },
      })),
      ...series.flatMap(({ ranges, labels }) => (ranges ? [intervals(ranges, labels)] : [])),
    ],
  })
}

/** Where a custom drawing gets its numbers and pixels from. */
interface Drawing {
  value(dim: number): number
  coord(point: readonly [number, number]): readonly [number, number]
}

/** An upright line with a cap at each end, in the middle of each category, and its label over it. */
const intervals = (ranges: readonly (readonly [number, number])[], labels: readonly string[] = []) => ({
  ...{ type: 'custom', silent: true, z: 3, encode: { x: 0, y: [1, 2] } },
  data: ranges.map(([low, high], i) => [i, low, high]),
  renderItem(_: unknown, at: Drawing) {
    const [x, low] = at.coord([at.value(0), at.value(1)])
    const [, high] = at.coord([at.value(0), at.value(2)])
    const line = (x1: number, y1: number, x2: number, y2: number) => ({
      ...{ type: 'line', shape: { x1, y1, x2, y2 }, style: { stroke: 'var(--text)', lineWidth: 1.2 } },
    })
    const style = { text: labels[at.value(0)] ?? '', x, y: high - 4, align: 'center', verticalAlign: 'bottom' }
    return {
      type: 'group',
      children: [
        ...[line(x, low, x, high), line(x - 4, low, x + 4, low), line(x - 4, high, x + 4, high)],
        { type: 'text', style: { ...style, fill: text.color, fontSize: text.fontSize } },
      ],
    }
  },
})

const barData = ({ values, labels }: Series) =>
  values.map((value, i) => ({ value: value ?? '-', label: { formatter: () => labels?.[i] ?? '' } }))

/** A thin line through all points, and a thick one through the means of as many neighbours as `smooth`. */
export function curve(
  points: readonly (readonly [x: number, y: number])[],
  { x, y, width = WIDTH, height = 220, smooth = 1 }: Size & Titles & { readonly smooth?: number },
): string {
  const line = (data: readonly (readonly [number, number])[], opacity: number, thickness: number) => ({
    ...{ type: 'line', showSymbol: false, data, lineStyle: { width: thickness, opacity, color: 'var(--one)' } },
  })
  return draw(width, height, {
    grid: grid([], 46),
    xAxis: { ...axis('value'), ...titled(x, 28), max: 'dataMax', splitLine: { show: false } },
    yAxis: { ...axis('value'), ...titled(y, GAP), scale: true },
    series: [line(points, smooth > 1 ? 0.35 : 1, 1), ...(smooth > 1 ? [line(means(points, smooth), 1, 2)] : [])],
  })
}

function means(points: readonly (readonly [number, number])[], count: number): (readonly [number, number])[] {
  const out: (readonly [number, number])[] = []
  // a rest of a few points would swing the end of the line
  for (let i = 0; i + count / 2 < points.length; i += count) {
    const part = points.slice(i, i + count)
    const mean = (k: 0 | 1): number => part.reduce((n, p) => n + p[k], 0) / part.length
    out.push([mean(0), mean(1)])
  }
  return out
}

/** Counts over a range of numbers, bars side by side. */
export function histogram(
  at: readonly number[],
  counts: readonly number[],
  { x, y, width = 236, height = 150 }: Size & Titles,
) {
  return draw(width, height, {
    grid: { left: 56, right: 12, top: 10, bottom: 38 },
    xAxis: {
      ...axis('category', at.map(shortNumber)),
      ...titled(x, 22),
      axisLabel: { ...label, fontSize: 10, interval: (at.length - 1) / 2 - 1, showMinLabel: true, showMaxLabel: true },
      axisTick: { show: false },
    },
    yAxis: {
      ...axis('value'),
      ...titled(y, 42),
      ...{ splitNumber: 2, axisLabel: { ...label, fontSize: 10 }, splitLine: { show: false } },
    },
    series: [{ type: 'bar', data: counts, barCategoryGap: '8%' }],
  })
}

export interface Cloud {
  readonly name: string
  readonly points: readonly (readonly [x: number, y: number, label: string])[]
  /** Joined by a line, in their order. */
  readonly isLine?: boolean
}

/** Points with their names, and lines through some of them. */
export function scatter(clouds: readonly Cloud[], { x, y, width = WIDE, height = 320 }: Size & Titles): string {
  return draw(width, height, {
    legend: { top: 0, textStyle: { color: 'var(--text)', fontSize: FONT } },
    grid: { left: 64, right: 60, top: 34, bottom: 44 },
    xAxis: { ...axis('value'), ...titled(x, 26), scale: true },
    yAxis: { ...axis('value'), ...titled(y, GAP), scale: true },
    series: clouds.map(({ name, points, isLine }) => ({
      ...(isLine ? { type: 'line', showSymbol: false, lineStyle: { width: 1.5 } } : { type: 'scatter', symbolSize: 8 }),
      name,
      data: points.map(([a, b, text]) => ({ value: [a, b], label: { formatter: () => text } })),
      label: { show: !isLine, position: 'right', ...text },
    })),
  })
}

const shortNumber = (x: number): string => (x === 0 ? '0' : x.toPrecision(2))
const label = { color: 'var(--muted)', fontSize: FONT }
const text = { color: 'var(--text)', fontSize: 11 }
/** From an upright axis to its title. */
const GAP = 46

const titled = (name: string, nameGap: number) => ({
  ...{ name, nameGap, nameLocation: 'middle', nameTextStyle: { color: 'var(--muted)', fontSize: FONT } },
})

const axis = (type: 'category' | 'value', data?: readonly string[]) => ({
  type,
  ...(data && { data }),
  axisLine: { lineStyle: { color: 'var(--line)' } },
  axisTick: { lineStyle: { color: 'var(--line)' } },
  splitLine: { show: type === 'value', lineStyle: { color: 'var(--line)' } },
  axisLabel: label,
})

const legend = (series: readonly Series[]) =>
  series.length > 1 ? { top: 0, textStyle: { color: 'var(--text)', fontSize: FONT } } : undefined

const grid = (series: readonly Series[], bottom: number) => ({
  ...{ left: 64, right: 16, top: series.length > 1 ? 34 : 22, bottom },
})

function draw(width: number, height: number, option: Readonly<Record<string, unknown>>): string {
  const chart = echarts.init(null, null, { renderer: 'svg', ssr: true, width, height })
  try {
    chart.setOption({
      ...{ animation: false, color: ['var(--one)', 'var(--two)', 'var(--three)'] },
      textStyle: { fontFamily: 'inherit', color: 'var(--text)' },
      ...option,
    })
    return tidy(chart.renderToSVGString())
  } finally {
    chart.dispose()
  }
}

/** Without the parts that only a script or the mouse would use. */
const tidy = (svg: string): string =>
  svg
    .replace(/<style[^>]*>.*?<\/style>/gs, '')
    .replace(/ (ecmeta_\w+|class|pointer-events|xmlns:xlink|xmlns|version|baseProfile)="[^"]*"/g, '')
    .replace(/<rect [^>]*fill="none"><\/rect>/g, '')
    .replace(/\n+/g, '')
