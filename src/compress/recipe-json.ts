/** The recipe of a point: that of its quantised graph, and the export. `mnc run` makes the same file of it. */
import type { ExportOptions } from '../export/export-options.ts'
import { kebab } from '../recipes/recipe.ts'

export type RecipeJson = Readonly<Record<string, unknown>>

export const STAGE = { float: 'float', quantised: 'quantised', exported: 'exported' } as const

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
