/**
 * Charts of a report as SVG text, drawn by ECharts without a browser. Colours are the page's CSS variables, so that one
 * drawing serves light and dark. This file alone imports echarts.
 */
import { BarChart, LineChart, ScatterChart } from 'echarts/charts'
import { GridComponent, LegendComponent } from 'echarts/components'
import * as echarts from 'echarts/core'
import { SVGRenderer } from 'echarts/renderers'

echarts.use([BarChart, LineChart, ScatterChart, GridComponent, LegendComponent, SVGRenderer])

const WIDTH = 760
const FONT = 12
/** Average width of a character, as a fraction of the font size. */
const CHARACTER = 0.58

export interface Series {
  readonly name: string
  readonly values: readonly (number | null)[]
  /** Text over each bar. */
  readonly labels?: readonly string[]
}

interface Size {
  readonly width?: number
  readonly height?: number
}

/** One group of bars per category. */
export function bars(
  categories: readonly string[],
  series: readonly Series[],
  { width = WIDTH, height = 260, unit = '', max }: Size & { readonly unit?: string; readonly max?: number } = {},
): string {
  const room = (width - 70) / Math.max(1, categories.length)
  const longest = Math.max(...categories.map((c) => c.length)) * FONT * CHARACTER
  const turned = longest > room - 6
  return draw(width, height, {
    legend: legend(series),
    grid: grid(series, turned ? longest * Math.SQRT1_2 + 16 : 26),
    xAxis: {
      ...axis('category', categories),
      axisLabel: { ...label, interval: 0, rotate: turned ? 45 : 0, hideOverlap: false },
      axisTick: { show: false },
    },
    yAxis: {
      ...axis('value'),
      ...(max !== undefined && { max }),
      axisLabel: { ...label, formatter: `{value}${unit}` },
    },
    series: series.map((s) => ({
      ...{ type: 'bar', name: s.name, barMaxWidth: 48, data: barData(s) },
      label: { show: s.labels !== undefined, position: 'top', color: 'var(--text)', fontSize: 11 },
    })),
  })
}

const barData = ({ values, labels }: Series) =>
  values.map((value, i) => ({ value: value ?? '-', label: { formatter: () => labels?.[i] ?? '' } }))

/** A thin line through all points, and a thick one through the means of as many neighbours as `smooth`. */
export function curve(
  points: readonly (readonly [x: number, y: number])[],
  { width = WIDTH / 2 - 12, height = 200, smooth = 1 }: Size & { readonly smooth?: number } = {},
): string {
  const line = (data: readonly (readonly [number, number])[], opacity: number, thickness: number) => ({
    ...{ type: 'line', showSymbol: false, data, lineStyle: { width: thickness, opacity, color: 'var(--one)' } },
  })
  return draw(width, height, {
    grid: grid([], 26),
    xAxis: { ...axis('value'), max: 'dataMax', splitLine: { show: false } },
    yAxis: { ...axis('value'), scale: true },
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
export function histogram(at: readonly number[], counts: readonly number[], { width = 236, height = 120 }: Size = {}) {
  return draw(width, height, {
    grid: { left: 8, right: 8, top: 8, bottom: 22, containLabel: false },
    xAxis: {
      ...axis('category', at.map(shortNumber)),
      axisLabel: { ...label, fontSize: 10, interval: (at.length - 1) / 2 - 1, showMinLabel: true, showMaxLabel: true },
      axisTick: { show: false },
    },
    yAxis: { ...axis('value'), axisLabel: { show: false }, splitLine: { show: false } },
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
export function scatter(
  clouds: readonly Cloud[],
  { x, y, width = WIDTH, height = 320 }: Size & { readonly x: string; readonly y: string },
): string {
  const title = { nameTextStyle: { color: 'var(--muted)', fontSize: FONT }, nameLocation: 'middle' }
  return draw(width, height, {
    legend: { top: 0, textStyle: { color: 'var(--text)', fontSize: FONT } },
    grid: { left: 64, right: 60, top: 34, bottom: 44 },
    xAxis: { ...axis('value'), ...title, name: x, nameGap: 26, scale: true },
    yAxis: { ...axis('value'), ...title, name: y, nameGap: 46, scale: true },
    series: clouds.map(({ name, points, isLine }) => ({
      ...(isLine ? { type: 'line', showSymbol: false, lineStyle: { width: 1.5 } } : { type: 'scatter', symbolSize: 8 }),
      name,
      data: points.map(([a, b, text]) => ({ value: [a, b], label: { formatter: () => text } })),
      label: { show: !isLine, position: 'right', color: 'var(--text)', fontSize: 11 },
    })),
  })
}

const shortNumber = (x: number): string => (x === 0 ? '0' : x.toPrecision(2))
const label = { color: 'var(--muted)', fontSize: FONT }

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
  ...{ left: 54, right: 16, top: series.length > 1 ? 34 : 22, bottom },
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
