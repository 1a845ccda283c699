/** The part of a report on what layers give beside the baseline's. */
import { bars, WIDE } from './report-charts.ts'
import type { LayerErrors } from './report-layers.ts'
import { figure, small, table } from './report-parts.ts'

export function layerOutputs(errors: LayerErrors | null): string {
  if (!errors) return ''
  const { against, on, layers } = errors
  // equal outputs have no noise to compare with
  const known = (sqnr: number): number | null => (Number.isFinite(sqnr) ? sqnr : null)
  const chart = bars(
    layers.map((l) => l.name),
    [{ name: 'SQNR', values: layers.map((l) => known(l.sqnr)) }],
    { width: Math.max(WIDE, layers.length * 26 + 80), height: 300, x: 'layer', y: 'SQNR, dB' },
  )
  const rows = layers.map((l) => [l.name, l.op, known(l.sqnr)?.toFixed(1) ?? 'equal', small(l.maxRelError)])
  return `<div class="wide">${figure(chart, `Signal to noise of each layer's output against ${against}, ${on}`)}</div>
<details><summary>All numbers</summary>${table(['layer', 'op', 'SQNR, dB', 'largest relative error'], rows, [1])}</details>`
}
