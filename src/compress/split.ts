/**
 * Candidates whose layers have different widths and sparsities: the bytes that the weights may take are split among the layers so
 * that the sum of what each layer costs alone is least (knapsack.ts: exact).
 */
import { exportModel } from '../export/export-model.ts'
import { cloneModel } from '../graph/clone.ts'
import { runPass } from '../passes/run-pass.ts'
import type { Effort } from '../ptq/ptq-options.ts'
import type { Candidate } from './candidate.ts'
import { splitBudget } from './knapsack.ts'
import { choicesOf, type LayerTable } from './layer-costs.ts'
import { describeForms, type Forms, formBytes, type LayerForm, ptqFormOptions } from './layer-forms.ts'
import type { Run } from './run.ts'

/** Forms with which the weights take `bytes` at most; null where the smallest take more. */
export function formsFor(layers: readonly LayerTable[], forms: readonly LayerForm[], bytes: number): Forms | null {
  const choices = choicesOf(layers, forms)
  const split = splitBudget(choices, bytes)
  return split && Object.fromEntries(layers.map((l, i) => [l.name, choices[i]![split.chosen[i]!]!.form]))
}

export const weightBytes = (layers: readonly LayerTable[], form: LayerForm): number =>
  layers.reduce((sum, l) => sum + formBytes(l.weights, form), 0)

export const mixed = (name: string, forms: Forms, effort?: Effort): Candidate => ({
  name,
  summary: `layers: ${describeForms(forms)}; 8-bit activations`,
  options: { weightBits: 8, activationBits: 8, ...ptqFormOptions(forms), ...(effort && { effort }) },
})

/**
 * Bytes of the smallest file with these forms, or the same share of zeros for all, its weights pruned and rounded to the nearest and nothing
 * else: quick, and nearly as large as what ships.
 */
export async function bytesAt(run: Run, forms: Forms, sparsity = 0): Promise<number> {
  const model = cloneModel(run.float)
  const { layerWeightBits, layerSparsity } = ptqFormOptions(forms)
  if (layerSparsity || sparsity > 0)
    await runPass(model, 'prune', { ops: ['*'], scope: 'adaptive', sparsity, ...(layerSparsity && { layerSparsity }) })
  const own = { ops: ['*'], weightBits: 8, activationBits: 0, firstLayer: 'quantize', layerWeightBits } as const
  await runPass(model, 'quantize', own)
  // of the fastest form, measuring would tell nothing about bytes
  const { forms: files, pick } = run.target
  const sizes: number[] = []
  for (const { options } of pick === 'smallest' ? files : files.slice(0, 1))
    sizes.push((await exportModel(model, options)).report.bytes)
  return Math.min(...sizes)
}
