/** A report of a recipe's run as one HTML page. */

import type { LayerInfo } from '../analysis/model-info.ts'
import { points } from '../base/shares.ts'
import type { CheckGates } from '../check/check-options.ts'
import { difference, type Proportion, wilson } from '../evaluate/paired.ts'
import type { Estimate } from '../latency/statistics.ts'
import { bars, curve, histogram, WIDE } from './report-charts.ts'
import type { ReportFacts, StageReport } from './report-facts.ts'
import { layerOutputs } from './report-outputs.ts'
import { count, figure, kilobytes, number, page, percent, section, small, table } from './report-parts.ts'

export function writePage(facts: ReportFacts): string {
  const sections = [
    section('Accuracy by stage', accuracy(facts.stages)),
    section('Size and score by stage', sizeAndScore(facts.stages)),
    section('Latency', latency(facts)),
    section(`Against ${facts.baseline.name}`, deltas(facts)),
    section('Stages', stageTable(facts.stages)),
    section('Loss', losses(facts.stages)),
    section(`Layers of ${facts.detail.stage}`, layers(facts.detail.info.layers)),
    section(`Outputs of layers of ${facts.detail.stage}`, layerOutputs(facts.detail.errors)),
    section(`Weights of ${facts.detail.stage}`, weights(facts)),
    section('Checks', checks(facts.stages)),
    section('What made it', history(facts)),
  ]
  return page(facts.recipe, lead(facts), sections, facts.version)
}

function lead({ stages, baseline }: ReportFacts): string {
  const last = stages.at(-1)!
  const { metrics } = last.record
  const { eval: measured, sparsity, weightBits } = metrics!
  const parts = measured ? [`${percent(measured.top1)} right on ${count(measured.samples)} test images`] : []
  const change = last === baseline ? null : changeOf(baseline, last)
  if (change) parts.push(`${signed(-change.drop)} points against ${baseline.name}`)
  const { bytes, times } = sizeOf(last, baseline)
  parts.push(
    `${count(bytes)} bytes${last === baseline || times === null ? '' : ` (${number3(times)} times smaller)`}`,
    `${percent(sparsity)} of the weights zero`,
    `${number(weightBits)} bits per weight`,
  )
  return `${last.name}: ${parts.join(', ')}.`
}

function accuracy(stages: readonly StageReport[]): string {
  const measured = stages.filter((s) => s.record.metrics!.eval)
  if (measured.length === 0) return ''
  const shares = measured.map((s) => rightOf(s)!)
  const values = shares.map((s) => s.p * 100)
  const labels = values.map((v) => v.toFixed(1))
  const ranges = shares.map((s) => [s.low * 100, s.high * 100] as const)
  const names = measured.map((s) => s.name)
  const chart = bars(names, [{ name: 'top-1', values, labels, ranges }], { x: 'stage', y: 'top-1, %' })
  return grid([figure(chart, 'Top-1 accuracy on the test split, with its 95 % interval')])
}

/** Right answers among the test samples. */
function rightOf({ record }: StageReport): Proportion | null {
  const measured = record.metrics!.eval
  return measured && wilson(Math.round(measured.top1 * measured.samples), measured.samples)
}

function changeOf(baseline: StageReport, stage: StageReport) {
  const [before, after] = [rightOf(baseline), rightOf(stage)]
  return before && after && difference(before, after)
}

/** As it deploys, or else of the file. */
function sizeOf(stage: StageReport, baseline: StageReport) {
  const bytes = stage.deployed?.bytes ?? stage.record.metrics!.bytes
  const before = baseline.deployed?.bytes ?? baseline.record.metrics!.bytes
  return { bytes, times: bytes === 0 ? null : before / bytes }
}

const grid = (figures: readonly string[]): string => `<div class="grid two">${figures.join('\n')}</div>`
const number3 = (x: number): string => String(Number(x.toPrecision(3)))
const signed = (share: number): string => `${share < 0 ? '−' : '+'}${Math.abs(100 * share).toFixed(2)}`
const interval = (low: string, high: string): string => `${low} to ${high}`
const within = ({ low, high }: Estimate): string => interval(number3(low), number3(high))

function deltas({ stages, baseline, latency }: ReportFacts): string {
  const others = stages.filter((s) => s !== baseline)
  if (others.length === 0) return ''
  const rows = [baseline, ...others].map((s) => {
    const right = rightOf(s)
    const change = s === baseline ? null : changeOf(baseline, s)
    const { bytes, times } = sizeOf(s, baseline)
    const timed = latency.find((l) => l.stage === s.name)
    return [
      ...[s.name, right ? percent(right.p) : '', right ? interval(percent(right.low), percent(right.high)) : ''],
      ...(change ? [signed(-change.drop), interval(signed(-change.high), signed(-change.low))] : ['', '']),
      ...[s.deployed?.as ?? 'the file', count(bytes), s === baseline || times === null ? '' : number3(times)],
      ...(timed ? [number3(timed.latency.median), within(timed.latency)] : ['', '']),
      ...(timed?.speedup ? [number3(timed.speedup.median), within(timed.speedup)] : ['', '']),
    ]
  })
  const heads = [
    'stage',
    'top-1',
    '95 %',
    'change, points',
    '95 %',
    'deploys as',
    'bytes',
    'times smaller',
    'ms',
    '95 %',
  ]
  const all = [...heads, 'times as fast', '95 %']
  // columns without a number say nothing
  const used = all.map((_, i) => rows.some((r) => r[i] !== ''))
  const kept = (row: readonly string[]): string[] => row.filter((_, i) => used[i])
  const words = kept(all).flatMap((h, i) => (h === 'deploys as' ? [i] : []))
  return `${table(kept(all), rows.map(kept), words)}
<p class="note">Stages are compared as if on unrelated samples: on the same ones the intervals of changes are narrower.</p>`
}

function latency({ latency }: ReportFacts): string {
  if (latency.length === 0) return ''
  const values = latency.map((l) => l.latency.median)
  const ranges = latency.map((l) => [l.latency.low, l.latency.high] as const)
  const labels = values.map(number3)
  const chart = bars(
    latency.map((l) => l.stage),
    [{ name: 'latency', values, labels, ranges }],
    { x: 'stage', y: 'latency, ms' },
  )
  const batch = latency[0]!.batch
  const samples = batch === 1 ? 'one sample' : `${batch} samples`
  return grid([
    figure(chart, `Time of a run of ${samples} on one thread where this was written, with its 95 % interval`),
  ])
}

function sizeAndScore(stages: readonly StageReport[]): string {
  const deployed = stages.filter((s) => s.deployed)
  const bytes = deployed.map((s) => s.deployed!.bytes)
  const sizes = [{ name: 'file', values: bytes.map((b) => b / 1e3), labels: bytes.map(kilobytes) }]
  const parts = [
    figure(
      bars(
        deployed.map((s) => s.name),
        sizes,
        { x: 'stage', y: 'size, kB' },
      ),
      'Size as it deploys: exports as they are, graphs of other stages as packed files',
    ),
  ]
  const scored = stages.filter((s) => s.score)
  if (scored.length > 0) {
    const of = (name: string, value: (s: StageReport) => number) => ({ name, values: scored.map(value) })
    const series = [of('storage', (s) => s.score!.storageScore), of('operations', (s) => s.score!.operationsScore)]
    parts.push(
      figure(
        bars(
          scored.map((s) => s.name),
          series,
          { x: 'stage', y: 'share of the reference' },
        ),
        'Score: storage and operations against the reference network (lower is better)',
      ),
    )
  }
  return grid(parts)
}

function stageTable(stages: readonly StageReport[]): string {
  const heads = ['stage', 'from', 'top-1', 'loss', 'bytes of file', 'zero', 'W bits', 'A bits', 'score', 'seconds']
  const rows = stages.map(({ name, from, record, score }) => {
    const m = record.metrics!
    return [
      ...[name, from ?? '', m.eval ? percent(m.eval.top1) : '', m.eval ? number(m.eval.loss) : '', count(m.bytes)],
      ...[percent(m.sparsity), number(m.weightBits), number(m.activationBits), score ? number(score.score) : ''],
      record.seconds === undefined ? '' : record.seconds.toFixed(0),
    ]
  })
  return table(heads, rows, [1])
}

/** Points that a drawing of this width can show. */
const POINTS = 500

function losses(stages: readonly StageReport[]): string {
  const drawn = stages.filter((s) => s.losses.length > 1)
  const figures = drawn.map(({ name, losses }) => {
    const every = Math.ceil(losses.length / POINTS)
    const points = losses.filter((_, i) => i % every === 0).map((p) => [p.step, p.loss] as const)
    const svg = curve(points, { x: 'step', y: 'loss', smooth: Math.ceil(points.length / 40) })
    return figure(svg, `${name}: ${count(losses.length)} steps, loss ${number(losses.at(-1)!.loss)} at the end`)
  })
  return figures.length > 0 ? grid(figures) : ''
}

function layers(list: readonly LayerInfo[]): string {
  if (list.length === 0) return ''
  const names = list.map((l) => l.name)
  const sparsity = [{ name: 'zero', values: list.map((l) => l.sparsity * 100) }]
  const bits = [
    { name: 'weights', values: list.map((l) => l.weightBits) },
    { name: 'activations', values: list.map((l) => l.activationBits) },
  ]
  const width = Math.max(WIDE, list.length * 26 + 80)
  const size = { width, height: 300 }
  const rows = list.map((l) => [
    ...[l.name, l.op, l.shape.join('×'), count(l.weights), percent(l.sparsity), String(l.weightBits)],
    ...[String(l.activationBits), l.macs === null ? '?' : count(l.macs), count(l.bytes)],
  ])
  const heads = ['layer', 'op', 'shape', 'weights', 'zero', 'W bits', 'A bits', 'MACs', 'bytes']
  return [
    `<div class="wide">${figure(bars(names, sparsity, { ...size, x: 'layer', y: 'zero weights, %', max: 100 }), 'Zero weights by layer')}</div>`,
    `<div class="wide">${figure(bars(names, bits, { ...size, x: 'layer', y: 'bits' }), 'Bits of weights and activations by layer')}</div>`,
    `<details><summary>All numbers</summary>${table(heads, rows, [1, 2])}</details>`,
  ].join('\n')
}

function weights({ detail }: ReportFacts): string {
  const figures = detail.histograms.map((h) =>
    figure(
      histogram(h.at, h.counts, { x: 'value', y: 'weights' }),
      `${h.layer} ${h.shape.join('×')}, ${percent(h.sparsity)} zero`,
    ),
  )
  if (figures.length === 0) return ''
  return `<p>Weights as the layer uses them, after mask and rounding; zeros are left out.</p>
<div class="grid three">${figures.join('\n')}</div>`
}

const levels = [
  ['disabled', 'none'],
  ['all', 'all'],
] as const

function checks(stages: readonly StageReport[]): string {
  const rows = stages.flatMap(({ name, record }) =>
    record.metrics!.checks.flatMap(({ against, gates, result }) =>
      levels.map(([level, title]) => {
        const r = result.byOptimisation[level]
        return [
          ...[`${name} against ${against}`, title, r.top1 === null ? '' : percent(r.top1)],
          ...[r.drop === null ? '' : `${(r.drop * 100).toFixed(2)} points`, small(r.maxRelError)],
          ...[percent(r.agreement), gateText(gates)],
        ]
      }),
    ),
  )
  const heads = ['check', 'optimisation', 'top-1', 'drop', 'relative error', 'same class', 'gate']
  const measured = stages.flatMap(({ name, record }) =>
    record.metrics!.checks.flatMap(({ against, gates: { maxWorse }, result }) =>
      Object.entries(result.metrics ?? {}).map(([metric, { reference, model, worse }]) => [
        ...[`${name} against ${against}`, metric, small(reference), small(model), small(worse)],
        maxWorse === undefined ? '' : `worse <= ${maxWorse}`,
      ]),
    ),
  )
  const metricHeads = ['check', 'metric', 'reference', 'model', 'worse by', 'gate']
  return [
    rows.length > 0 ? table(heads, rows, [1, 6]) : '',
    measured.length > 0 ? table(metricHeads, measured, [1, 5]) : '',
  ].join('\n')
}

/** Gates as requested; a run that did not pass one ended there. */
function gateText({ maxDrop, maxChange }: CheckGates) {
  const parts = maxDrop === undefined ? [] : [`drop <= ${points(maxDrop)}`]
  if (maxChange !== undefined) parts.push(`change <= ${points(maxChange)}`)
  return parts.join(', ')
}

function history({ detail }: ReportFacts): string {
  const shown = (o: object): string =>
    Object.entries(o)
      .map(([k, v]) => `${k} ${typeof v === 'string' ? v : JSON.stringify(v)}`)
      .join(', ')
  const rows = detail.info.history.map((h) => [h.pass, h.input ?? '', shown(h.options), shown(h.metrics ?? {})])
  return rows.length > 0 ? table(['step', 'input', 'options', 'result'], rows, [1, 2, 3]) : ''
}
