/** The page about a run: what was asked for, what came out, the points on the way, and the layers of the chosen one. */
import { modelInfo } from '../analysis/model-info.ts'
import { packageVersion } from '../base/package-files.ts'
import { readModel } from '../codec/codec.ts'
import { bars, scatter, WIDE } from '../recipes/report-charts.ts'
import { layerErrors } from '../recipes/report-layers.ts'
import { layerOutputs } from '../recipes/report-outputs.ts'
import { count, figure, number, page, percent, section, table, text } from '../recipes/report-parts.ts'
import { paretoOf, qualityOf } from './choose.ts'
import type { CompressResult, Found } from './events.ts'
import { showAmount } from './goal.ts'
import type { Point } from './point.ts'
import { askedText, judgedText } from './words.ts'
import { Work } from './work.ts'

/** `title`: of the file. */
export async function compressPage(result: CompressResult, point: Point, title: string): Promise<string> {
  const work = new Work(result.workdir)
  const file = work.pointAt(point.name, 'graph')
  const info = await modelInfo(await readModel(file), { bytes: 0 })
  const asked = await work.request()
  const baseline = ['the float model', asked?.model ?? ''] as const
  const errors = asked && (await layerErrors({ baseline, file, data: asked.data, log: () => {} }))
  const sections = [
    section('Asked and reached', askedAndReached(result, point)),
    section('Points', pointsOf(result, point)),
    section(`Layers of ${point.name}`, layers(info.layers)),
    section(`Outputs of layers of ${point.name}`, layerOutputs(errors)),
    section('Repeat', repeat(result)),
  ]
  return page(title, lead(result, point), sections, packageVersion())
}

const lead = ({ found, verdict }: CompressResult, point: Point): string =>
  `${showAmount('bytes', point.bytes)}, ${Number((found.bytes / point.bytes).toPrecision(3))} times smaller than the float file: ${
    verdict.met ? 'what was asked for is reached' : `not what was asked for: ${verdict.misses.join('; ')}`
  }.`

function askedAndReached(result: CompressResult, point: Point): string {
  const { test, check, found } = result
  const { all } = check.byOptimisation
  const rows = [
    ['asked for', askedText(result)],
    [`on ${heldOut(found)}`, judgedText(point.held)],
    ['on test samples', judgedText(test)],
    [
      'file against its graph',
      `the same answer on ${percent(all.agreement)} of ${count(check.samples)} samples in onnxruntime`,
    ],
  ]
  const advice = [...result.notes, ...result.advice].map((a) => `<li>${text(a)}</li>`).join('')
  return `${table(['', ''], rows, [1])}${advice === '' ? '' : `<ul>${advice}</ul>`}`
}

/** What is chosen by. */
const heldOut = ({ mixed }: Found): string => `samples held out${mixed === null ? '' : ', mixed in pairs'}`

function pointsOf(result: CompressResult, point: Point): string {
  const { points, found } = result
  const labelled = point.held.top1 !== null
  const value = (p: Point): number => (labelled ? qualityOf(p) * 100 : qualityOf(p))
  const axis = labelled ? 'accuracy on samples held out, %' : 'cosine of outputs'
  const what = labelled ? `Accuracy on ${heldOut(found)}` : 'Cosine of the outputs'
  const costs: readonly (readonly [unit: string, title: string, of: (p: Point) => number | null])[] = [
    ['kB', 'the size of the file', (p) => p.bytes / 1e3],
    ['million MACs', 'multiply-accumulates', (p) => p.macs && p.macs / 1e6],
    ['ms', 'latency, one sample on one thread', (p) => p.latency],
  ]
  const charts = costs.flatMap(([unit, title, of]) => {
    const known = points.filter((p) => of(p) !== null)
    // a line of points one above the other shows nothing
    if (known.length === 0 || (unit !== 'kB' && new Set(known.map(of)).size < 2)) return []
    const at = (p: Point, name: string) => [of(p)!, value(p), name] as const
    const front = paretoOf(known, (p) => of(p)!)
    const series = [
      { name: 'made', points: known.map((p) => at(p, p.name)) },
      { name: 'no other costs less and is better', points: front.map((p) => at(p, '')), isLine: true },
    ]
    return [`<div class="wide">${figure(scatter(series, { x: unit, y: axis }), `${what} against ${title}`)}</div>`]
  })
  const heads = [
    'point',
    'what',
    'bytes',
    'times smaller',
    labelled ? 'accuracy' : 'cosine',
    ...(labelled ? ['drop, points', '95 %'] : []),
    'MACs',
    'ms',
    'W bits',
    'A bits',
    'zero',
    'seconds',
  ]
  const float = [
    'float',
    'as it came',
    count(found.bytes),
    '',
    labelled ? percent(found.mixed ?? found.top1 ?? 0, 2) : '1',
    ...(labelled ? ['', ''] : []),
  ]
  const rest = [
    found.macs === null ? '?' : count(found.macs),
    found.latency === null ? '' : number(found.latency),
    '32',
    '32',
    '',
    '',
  ]
  const rows = points.map((p, i) => [
    ...[`${i + 1} ${p.name}${p === point || p.name === point.name ? ' (this file)' : ''}`, p.summary, count(p.bytes)],
    Number((found.bytes / p.bytes).toPrecision(3)).toString(),
    labelled ? percent(p.held.top1!, 2) : p.held.cosine.toFixed(5),
    ...(labelled ? dropOf(p) : []),
    ...[p.macs === null ? '?' : count(p.macs), p.latency === null ? '' : number(p.latency)],
    ...[number(p.weightBits), number(p.activationBits), percent(p.sparsity), p.seconds.toFixed(0)],
  ])
  return `${charts.join('\n')}${table(heads, [[...float, ...rest], ...rows], [1])}`
}

/** With its interval, in points. */
function dropOf({ held }: Point): readonly string[] {
  const { drop, low, high } = held.difference!
  const shown = (share: number): string => (100 * share).toFixed(2)
  return [shown(drop), `${shown(low)} to ${shown(high)}`]
}

function layers(list: Awaited<ReturnType<typeof modelInfo>>['layers']): string {
  if (list.length === 0) return ''
  const names = list.map((l) => l.name)
  const bits = [
    { name: 'weights', values: list.map((l) => l.weightBits) },
    { name: 'activations', values: list.map((l) => l.activationBits) },
  ]
  const width = Math.max(WIDE, list.length * 26 + 80)
  const rows = list.map((l) => [
    ...[
      l.name,
      l.op,
      l.shape.join('×'),
      count(l.weights),
      percent(l.sparsity),
      String(l.weightBits),
      String(l.activationBits),
    ],
  ])
  const heads = ['layer', 'op', 'shape', 'weights', 'zero', 'W bits', 'A bits']
  return `<div class="wide">${figure(bars(names, bits, { width, height: 300, x: 'layer', y: 'bits' }), 'Bits of weights and activations by layer')}</div>
<details><summary>All numbers</summary>${table(heads, rows, [1, 2])}</details>`
}

const repeat = ({ workdir, points }: CompressResult): string =>
  `<p>The recipe beside the file makes it again, byte for byte: <code>mnc run FILE.recipe.json</code>. Another point of the table at no cost: <code>${text(
    `mnc compress --resume ${workdir} --pick K -o FILE.onnx`,
  )}</code>, K from 1 to ${points.length}.</p>`
