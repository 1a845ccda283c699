/** Losses by name: those of step/losses.ts, and the user's own. */
import { Registry } from '../base/registry.ts'
import type { Builder } from '../graph/builder.ts'
import type { Value } from '../graph/graph.ts'

/** A loss of the user's own: compares an output with the teacher's, or with an array of the data. */
export interface LossDef {
  /** kebab-case, as --loss names it. */
  readonly name: string
  readonly summary: string
  /**
   * Emits the loss of `student` against `teacher`, float values of the same static shape with the batch first: a scalar, a mean
   * over batch and elements. Everything it emits has to have a gradient.
   */
  emit(b: Builder, student: Value, teacher: Value): Value
}

/** Declares a loss, which `--loss NAME` then takes. */
export const defineLoss = (def: LossDef): LossDef => def

export const builtInLosses = ['ce', 'kl', 'reverse-kl', 'mse', 'nmse', 'l1'] as const

export type BuiltInLoss = (typeof builtInLosses)[number]
/** One of those, or of the user's own. */
export type LossName = BuiltInLoss | (string & {})

export const lossRegistry = new Registry<LossDef | { readonly name: BuiltInLoss }>(
  'loss',
  builtInLosses.map((name) => ({ name })),
  (l) => [l.name],
)

export const ownLoss = (name: LossName): LossDef | undefined =>
  lossRegistry.all.find((l): l is LossDef => l.name === name && 'emit' in l)
