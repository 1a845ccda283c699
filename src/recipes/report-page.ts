/** A report of a recipe's run as one HTML page. */

import type { LayerInfo } from '../analysis/model-info.ts'
import { points } from '../base/shares.ts'
import type { CheckGates } from '../check/check-options.ts'
import { bars, curve, histogram } from './report-charts.ts'
import type { ReportFacts, StageReport } from './report-facts.ts'
import { count, figure, kilobytes, number, page, percent, section, table } from './report-parts.ts'

export function writePage(facts: ReportFacts): string {
  const sections = [
    section('Accuracy by stage', accuracy(facts.stages)),
    section('Size and score by stage', sizeAndScore(facts.stages)),
    section('Stages', stageTable(facts.stages)),
    section('Loss', losses(facts.stages)),
    section(`Layers of ${facts.detail.stage}`, layers(facts.detail.info.layers)),
    section(`Weights of ${facts.detail.stage}`, weights(facts)),
    section('Checks', checks(facts.stages)),
    section('What made it', history(facts)),
  ]
  return page(facts.recipe, lead(facts), sections, facts.version)
}

function lead({ stages }: ReportFacts): string {
  const last = stages.at(-1)!
  const { metrics } = last.record
  const { eval: measured, bytes, sparsity, weightBits } = metrics!
  const parts = measured ? [`${percent(measured.top1)} right on ${count(measured.samples)} test images`] : []
  parts.push(
    `${count(bytes)} bytes`,
    `${percent(sparsity)} of the weights zero`,
    `${number(weightBits)} bits per weight`,
  )
  return `${last.name}: ${parts.join(', ')}.`
}

function accuracy(stages: readonly StageReport[]): string {
  const measured = stages.filter((s) => s.record.metrics!.eval)
  if (measured.length === 0) return ''
  const values = measured.map((s) => s.record.metrics!.eval!.top1 * 100)
  const labels = values.map((v) => v.toFixed(1))
  const names = measured.map((s) => s.name)
  return figure(bars(names, [{ name: 'top-1', values, labels }], { unit: ' %' }), 'Top-1 accuracy on the test split')
}

function sizeAndScore(stages: readonly StageReport[]): string {
  const names = stages.map((s) => s.name)
  const bytes = stages.map((s) => s.record.metrics!.bytes)
  const sizes = [{ name: 'file', values: bytes.map((b) => b / 1e3), labels: bytes.map(kilobytes) }]
  const parts = [figure(bars(names, sizes, { unit: ' kB' }), 'Size of the file')]
  const scored = stages.filter((s) => s.score)
  if (scored.length > 0) {
    const of = (name: string, value: (s: StageReport) => number) => ({ name, values: scored.map(value) })
    const series = [of('storage', (s) => s.score!.storageScore), of('operations', (s) => s.score!.operationsScore)]
    parts.push(
      figure(
        bars(
          scored.map((s) => s.name),
          series,
        ),
        'Score: storage and operations against the reference network (lower is better)',
      ),
    )
  }
  return parts.join('\n')
}

function stageTable(stages: readonly StageReport[]): string {
  const heads = ['stage', 'from', 'top-1', 'loss', 'bytes', 'zero', 'W bits', 'A bits', 'score', 'seconds']
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
    const svg = curve(points, { smooth: Math.ceil(points.length / 40) })
    return figure(svg, `${name}: ${count(losses.length)} steps, loss ${number(losses.at(-1)!.loss)} at the end`)
  })
  return figures.length > 0 ? `<div class="grid two">${figures.join('\n')}</div>` : ''
}

function layers(list: readonly LayerInfo[]): string {
  if (list.length === 0) return ''
  const names = list.map((l) => l.name)
  const sparsity = [{ name: 'zero', values: list.map((l) => l.sparsity * 100) }]
  const bits = [
    { name: 'weights', values: list.map((l) => l.weightBits) },
    { name: 'activations', values: list.map((l) => l.activationBits) },
  ]
  const width = Math.max(760, list.length * 26 + 80)
  const size = { width, height: 300 }
  const rows = list.map((l) => [
    ...[l.name, l.op, l.shape.join('×'), count(l.weights), percent(l.sparsity), String(l.weightBits)],
    ...[String(l.activationBits), l.macs === null ? '?' : count(l.macs), count(l.bytes)],
  ])
  const heads = ['layer', 'op', 'shape', 'weights', 'zero', 'W bits', 'A bits', 'MACs', 'bytes']
  return [
    `<div class="wide">${figure(bars(names, sparsity, { ...size, unit: ' %', max: 100 }), 'Zero weights by layer')}</div>`,
    `<div class="wide">${figure(bars(names, bits, size), 'Bits of weights and activations by layer')}</div>`,
    `<details><summary>All numbers</summary>${table(heads, rows, [1, 2])}</details>`,
  ].join('\n')
}

function weights({ detail }: ReportFacts): string {
  const figures = detail.histograms.map((h) =>
    figure(histogram(h.at, h.counts), `${h.layer} ${h.shape.join('×')}, ${percent(h.sparsity)} zero`),
  )
  if (figures.length === 0) return ''
  return `<p>Weights as the layer uses them, after mask and rounding; zeros are left out.</p>
<div class="grid three">${figures.join('\n')}</div>`
}

const levels = [
  ['disabled', 'none'],
  ['all', 'all'],
] as const
const small = (x: number): string => (x !== 0 && x < 1e-3 ? x.toExponential(1) : number(x))

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
