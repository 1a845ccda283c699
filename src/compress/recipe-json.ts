/** The recipe of a point: that of its quantised graph, and the export. `mnc run` makes the same file of it. */
import type { ExportOptions } from '../export/export-options.ts'
import { CONSTANTS, PRUNE, QUANTIZE, ROUND } from '../ptq/steps.ts'
import { kebab } from '../recipes/recipe.ts'

export type RecipeJson = Readonly<Record<string, unknown>>

export const STAGE = { float: 'float', rounded: 'rounded', quantised: 'quantised', exported: 'exported' } as const

/** `measured`: the file's accuracy is shown when the recipe is run. */
export function exportStage(recipe: RecipeJson, options: ExportOptions, measured: boolean): RecipeJson {
  const { stages } = recipe
  const own = Object.fromEntries(Object.entries(options).map(([k, v]) => [kebab(k), v]))
  const stage = {
    ...{ name: STAGE.exported, from: STAGE.quantised, export: { ...own, 'allow-larger': true } },
    ...(!measured && { eval: false }),
  }
  return { ...recipe, stages: [...(Array.isArray(stages) ? stages : []), stage] }
}

interface Training {
  readonly train: RecipeJson
  /** Normalisations are to be trained: nothing is folded into the layers, whose weights are rounded in the place of all else. */
  readonly normalised: boolean
}

/** The recipe of another point without its export, and training behind it: what was its graph is only rounded now. */
export function trainedBehind(recipe: RecipeJson, { train, normalised }: Training): RecipeJson {
  const stages = Array.isArray(recipe.stages) ? recipe.stages : []
  const before = stages
    .filter((s) => s.name !== STAGE.exported)
    .map((s) => {
      if (s.name !== STAGE.quantised) return s
      const { passes, train: _, teacher: __, ...rest } = s
      return normalised ? { ...rest, name: STAGE.rounded, passes: roundedOnly(passes) } : { ...s, name: STAGE.rounded }
    })
  const stage = { name: STAGE.quantised, from: STAGE.rounded, teacher: STAGE.float, eval: false, train }
  return { ...recipe, stages: [...before, stage] }
}

/** Of the passes of a point those that prune, quantise and round; rounding behind them where training had its place. */
function roundedOnly(passes: readonly RecipeJson[]): readonly RecipeJson[] {
  const own = passes.filter((p) => [CONSTANTS, PRUNE, QUANTIZE, ROUND].some((name) => name in p))
  if (own.some((p) => ROUND in p)) return own
  const quantize = own.find((p) => QUANTIZE in p)?.[QUANTIZE] ?? {}
  const shared = Object.entries(quantize).filter(([name]) => SHARED.includes(name))
  const pruned = own.some((p) => PRUNE in p) && { pruned: 'compensate' }
  return [...own, { [ROUND]: { ...Object.fromEntries(shared), ...pruned } }]
}

/** Options that rounding has from quantising. */
const SHARED = ['ops', 'only', 'exclude', 'limit', 'batch', 'allow-nonfinite']
