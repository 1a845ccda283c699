/**
 * Candidates whose layers have different widths: the bytes that the weights may take are split among the layers so that the sum of what each
 * layer costs alone is least (knapsack.ts: exact).
 */
import { exportModel } from '../export/export-model.ts'
import { cloneModel } from '../graph/clone.ts'
import { runPass } from '../passes/run-pass.ts'
import type { Candidate } from './candidate.ts'
import { splitBudget } from './knapsack.ts'
import { choicesOf, type LayerTable, widthBytes } from './layer-costs.ts'
import type { Run } from './run.ts'

/** Of weights, where files are to be small. */
export const SMALL_WIDTHS = [2, 3, 4, 6, 8] as const
/** Where 8 bits everywhere are too few. */
export const MILD_WIDTHS = [8, 0] as const

export type Widths = Readonly<Record<string, number>>

/** Widths with which the weights take `bytes` at most; null where the fewest bits take more. */
export function widthsFor(layers: readonly LayerTable[], widths: readonly number[], bytes: number): Widths | null {
  const choices = choicesOf(layers, widths)
  const split = splitBudget(choices, bytes)
  return split && Object.fromEntries(layers.map((l, i) => [l.name, choices[i]![split.chosen[i]!]!.bits]))
}

export const weightBytes = (layers: readonly LayerTable[], widths: (name: string) => number): number =>
  layers.reduce((sum, l) => sum + widthBytes(l.weights, widths(l.name)), 0)

export function mixed(name: string, widths: Widths): Candidate {
  const counts = new Map<number, number>()
  for (const bits of Object.values(widths)) counts.set(bits, (counts.get(bits) ?? 0) + 1)
  const parts = [...counts]
    .sort(([a], [b]) => a - b)
    .map(([bits, n]) => `${n} at ${bits === 0 ? 'float' : `${bits} bits`}`)
  const floats = Object.fromEntries(Object.entries(widths).filter(([, bits]) => bits === 0))
  return {
    name,
    summary: `layers: ${parts.join(', ')}; 8-bit activations`,
    options: {
      ...{ weightBits: 8, activationBits: 8, layerWeightBits: widths },
      ...(Object.keys(floats).length > 0 && { layerActivationBits: floats }),
    },
  }
}

/** Bytes of the smallest file with these widths, its weights pruned and rounded and nothing else: quick, and as large as what ships. */
export async function bytesAt(run: Run, widths: Widths, sparsity = 0): Promise<number> {
  const model = cloneModel(run.float)
  if (sparsity > 0) await runPass(model, 'prune', { ops: ['*'], sparsity })
  const own = { ops: ['*'], weightBits: 8, activationBits: 0, firstLayer: 'quantize', layerWeightBits: widths } as const
  await runPass(model, 'quantize', own)
  // of the fastest form, measuring would tell nothing about bytes
  const { forms, pick } = run.target
  const sizes: number[] = []
  for (const { options } of pick === 'smallest' ? forms : forms.slice(0, 1))
    sizes.push((await exportModel(model, options)).report.bytes)
  return Math.min(...sizes)
}
