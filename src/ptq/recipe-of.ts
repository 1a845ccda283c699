/**
 * What post-training quantisation did, as a recipe: the float network with what was said about its inputs, and the
 * quantised one with the steps that were kept. `mnc run` makes the same file from it.
 */
import type { OptionsOf, OptionTable } from '../base/options.ts'
import type { dataOptions } from '../data/data-options.ts'
import type { Preprocess } from '../data/preprocess.ts'
import { kebab } from '../recipes/recipe.ts'
import type { sizeOptions } from '../samples/size-options.ts'
import type { PtqSequence } from './ptq.ts'

/** What a recipe names besides the steps of `ptq`. */
export interface RecipeFacts {
  readonly name: string
  /** Path of the float model. */
  readonly model: string
  /** Data reference. */
  readonly data: string
  readonly reading: Partial<OptionsOf<typeof dataOptions>>
  readonly sizes: Partial<OptionsOf<typeof sizeOptions>>
  readonly preprocess: Preprocess | undefined
  readonly seed: number
}

const FLOAT = 'float'
const QUANTISED = 'quantised'

/** A recipe that does what a run of `ptq` did. */
export function recipeOf({ passes, train }: PtqSequence, facts: RecipeFacts): Readonly<Record<string, unknown>> {
  const { name, model, data, seed, preprocess } = facts
  const reading = kebabKeys(facts.reading)
  const sizes = kebabKeys(facts.sizes)
  const pixels = preprocess && pixelsOf(preprocess)
  const unmeasured = { eval: false }
  return {
    ...{ name, data },
    ...(filled(reading) && { reading }),
    ...(seed > 0 && { seed }),
    stages: [
      {
        ...{ name: FLOAT, from: /[\\/.]/.test(model) ? model : `./${model}` },
        ...(pixels && { pixels }),
        ...(filled(sizes) && { sizes }),
        ...unmeasured,
      },
      {
        ...{ name: QUANTISED, from: FLOAT },
        ...(train && { teacher: FLOAT }),
        passes: passes.map(({ name: pass, options, calibration }) => ({
          [pass]: kebabKeys({ ...options, ...calibration }),
        })),
        ...(train && { train: kebabKeys(train) }),
        ...unmeasured,
      },
    ],
  }
}

const pixelsOf = ({ mean, std, scale, size, replicateGrey }: Preprocess) => ({
  ...{ mean, std, scale, 'input-size': size },
  ...(replicateGrey && { 'replicate-grey': true }),
})

const filled = (o: object): boolean => Object.keys(o).length > 0

/** Options as recipes name them; those that are not given are left out. */
const kebabKeys = (options: { readonly [K in keyof OptionTable]?: unknown }): Record<string, unknown> =>
  Object.fromEntries(Object.entries(options).flatMap(([k, v]) => (v === undefined ? [] : [[kebab(k), v]])))
