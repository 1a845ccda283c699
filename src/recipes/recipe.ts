/**
 * What a recipe is: its JSON Schema, made from the option tables of the commands and passes, and the types of a recipe
 * that has been read. A stage's keys are commands (`build`, `train`, `bn-update`, `export`, `eval`, `score`, `check`),
 * its options the command line's without `--`.
 */
import { flagOf, jsonSchemaOf, type OptionsOf, type OptionTable, optionTable } from '../base/options.ts'
import { checkOptions, type ParsedCheckOptions } from '../check/check-options.ts'
import { calibrationOptions } from '../data/calibration-options.ts'
import { dataOptions } from '../data/data-options.ts'
import { pixelOptions } from '../data/pixel-options.ts'
import { evaluateOptions, metricOptions } from '../evaluate/evaluate-options.ts'
import { type ParsedTargetOptions, targetOptions } from '../export/targets/target-options.ts'
import type { NetworkSpec } from '../models/spec.ts'
import { namesOf, type PassDef } from '../pass-manager/define-pass.ts'
import { passes } from '../passes/index.ts'
import { sizeOptions } from '../samples/size-options.ts'
import { type ParsedScoreOptions, scoreOptions } from '../score/report.ts'
import { bnUpdateOptions, type ParsedBnUpdateOptions } from '../train/bn-update-options.ts'
import { type TrainOptions, trainOptions } from '../train/train-options.ts'

/** A reference model would be a stage, which `check` compares with. */
const recipeEvalOptions = optionTable({ ...evaluateOptions, metric: metricOptions.metric })

/** Option tables by the command whose name a stage gives them. */
export const stageTables = {
  train: trainOptions,
  'bn-update': bnUpdateOptions,
  export: targetOptions,
  eval: recipeEvalOptions,
  score: scoreOptions,
  check: checkOptions,
  reading: dataOptions,
  pixels: pixelOptions,
  sizes: sizeOptions,
} as const satisfies Readonly<Record<string, OptionTable>>

export type StageTable = keyof typeof stageTables

/** Where a graph comes from. */
export type Source =
  | {
      readonly kind: 'build'
      readonly reference: string
      readonly spec: NetworkSpec
      /** The recipe holds the spec itself; reference is its family. */
      readonly inline: boolean
    }
  | { readonly kind: 'file'; readonly path: string }
  | { readonly kind: 'stage'; readonly name: string }

export type Graphs = Exclude<Source, { kind: 'build' }>

export interface StagePass {
  readonly def: PassDef
  /** The pass's own options, defaults filled in. */
  readonly options: Readonly<Record<string, unknown>>
  readonly calibration: OptionsOf<typeof calibrationOptions> | null
}

export interface StageCheck {
  /** What the stage's model is compared with. */
  readonly against: Graphs
  readonly options: ParsedCheckOptions
}

/** A stage of a recipe, options filled in. */
export interface Stage {
  readonly name: string
  readonly description: string | null
  readonly source: Source
  readonly teacher: Graphs | null
  /** Data reference; null where the recipe names none. */
  readonly data: string | null
  /** How they are read, and the classes of the model's outputs. */
  readonly reading: OptionsOf<typeof dataOptions>
  readonly seed: number
  /** Preprocessing of a foreign model. */
  readonly pixels: OptionsOf<typeof pixelOptions>
  /** Sizes that a foreign model leaves open. */
  readonly sizes: OptionsOf<typeof sizeOptions>
  /** In this order: passes, train, bnUpdate, export. */
  readonly passes: readonly StagePass[]
  readonly train: TrainOptions | null
  readonly bnUpdate: ParsedBnUpdateOptions | null
  readonly export: ParsedTargetOptions | null
  /** What is measured of the result. */
  readonly eval: OptionsOf<typeof recipeEvalOptions> | null
  readonly score: ParsedScoreOptions | null
  readonly checks: readonly StageCheck[]
}

/** A recipe that has been read and checked. */
export interface Recipe {
  readonly name: string
  readonly description: string | null
  readonly stages: readonly Stage[]
}

/** Options of a pass in a recipe: its own, and, if it calibrates, how much data it sees. */
export const passTable = (def: PassDef): OptionTable => ({ ...def.options, ...(def.data && calibrationOptions) })

/** `bnUpdate` as recipes write it. */
export const kebab = (name: string): string => flagOf(name).slice(2)

/** Keys of a table as the command line names them. */
function tableSchema(table: OptionTable, more: Readonly<Record<string, unknown>> = {}): Record<string, unknown> {
  const { properties, ...rest } = jsonSchemaOf(table)
  const renamed = Object.entries(properties as object).map(([name, schema]) => [kebab(name), schema])
  return { ...rest, properties: { ...more, ...Object.fromEntries(renamed) } }
}

const text = (description: string) => ({ type: 'string', minLength: 1, description })
/** A name that is also used for files. */
const fileName = (description: string) => ({ ...text(description), pattern: '^[A-Za-z0-9_][A-Za-z0-9_.-]*$' })
/** A name that is also used for a folder: it leads nowhere else. */
const folderName = (description: string) => ({ ...text(description), pattern: '^[^./\\\\][^/\\\\]*$' })

function passItem(): Record<string, unknown> {
  const entries = passes.flatMap((def) =>
    namesOf(def).map((name) => [name, { description: def.summary, ...tableSchema(passTable(def)) }]),
  )
  return {
    ...{ type: 'object', properties: Object.fromEntries(entries), additionalProperties: false },
    ...{ minProperties: 1, maxProperties: 1, description: 'One pass and its options' },
  }
}

/** JSON Schema (draft-07) of a recipe. */
export function recipeSchema(): Record<string, unknown> {
  const tables = Object.fromEntries(Object.entries(stageTables).map(([name, table]) => [name, tableSchema(table)]))
  const {
    check,
    pixels,
    sizes,
    reading: given,
    export: exporting,
    train,
    eval: evaluating,
    score,
    'bn-update': bnUpdate,
  } = tables
  const measured = {
    description: 'How to measure accuracy and other metrics; false: do not measure them',
    ...evaluating,
  }
  const scored = { description: "Also count storage and operations by the MicroNet Challenge's rules", ...score }
  const data = text('Data reference, as --data takes it')
  const reading = { description: "How data are read, and the classes of the models' outputs", ...given }
  const seed = { type: 'integer', minimum: 0, description: 'Seed of all random numbers' }
  const stage = {
    type: 'object',
    additionalProperties: false,
    required: ['name'],
    properties: {
      name: fileName('Name of the stage and of its files'),
      description: { type: 'string' },
      build: {
        type: ['string', 'object'],
        description: 'The network to build: a name in models/, a JSON file, a family, or a spec itself',
      },
      from: text('The graph to start from: an earlier stage, or a model file'),
      teacher: text('Network whose outputs the model learns: an earlier stage, or a model file'),
      data,
      reading,
      seed,
      pixels: { description: 'How pixels become the input of a foreign model', ...pixels },
      sizes: { description: 'Sizes of dims that a foreign model leaves dynamic', ...sizes },
      passes: { type: 'array', items: passItem(), description: 'Passes to run, in order' },
      train: { description: 'Training, after the passes', ...train },
      'bn-update': { description: 'Re-estimation of running statistics, after training', ...bnUpdate },
      export: { description: "The stage's file is an export", ...exporting },
      eval: { ...measured, type: ['object', 'boolean'] },
      score: { ...scored, type: ['object', 'boolean'] },
      check: {
        type: 'array',
        description: 'Comparisons with other graphs, in onnxruntime at both optimisation levels',
        items: {
          ...tableSchema(checkOptions, {
            against: text('An earlier stage (by default the one named by from) or a file'),
          }),
          description: (check as { description?: string }).description ?? 'One comparison',
        },
      },
    },
  }
  return {
    $schema: 'http://json-schema.org/draft-07/schema#',
    title: 'mnc recipe',
    type: 'object',
    additionalProperties: false,
    required: ['name', 'stages'],
    properties: {
      $schema: { type: 'string' },
      name: folderName('Name of the recipe, and of its work folder below build/'),
      description: { type: 'string' },
      data,
      reading,
      seed,
      defaults: {
        type: 'object',
        additionalProperties: false,
        description: 'Default options of all stages; train and bn-update apply to stages that have them',
        properties: { train, 'bn-update': bnUpdate, eval: { ...measured, type: ['object', 'boolean'] }, score: scored },
      },
      stages: { type: 'array', minItems: 1, items: stage, description: 'In the order in which they run' },
    },
  }
}
