/** What a pass is: one declaration. The manager, the command line, the docs and the JSON Schemas all read it. */
import type { LongRun } from '../base/long-run.ts'
import type { OptionsOf, OptionTable } from '../base/options.ts'
import type { Model } from '../graph/model.ts'
import type { CalibrationData } from '../samples/calibration-data.ts'
import { overridableOptions } from './overridable-options.ts'

/** The calibration data look at the signal with every batch; whatever else takes long does so itself (`stopIfAborted`). */
export interface PassContext extends LongRun {
  /**
   * A rule did not fire at `where` (a node's or value's name): `--explain` prints these. `left`: the weights that stay as
   * they were for this reason, and the options that would include them.
   */
  decline(where: string, reason: string, left?: Left): void
  /** A line about what was done, or a warning, for stderr. */
  log(message: string): void
  readonly seed: number
  /** Present when the caller gave data. */
  readonly calibration?: CalibrationData
}

export interface Left {
  /** Elements. */
  readonly weights: number
  /** Options, as typed. */
  readonly remedy?: string | undefined
}

/** A pass: its options, what it needs, and what it does to a model. */
export interface PassDef<T extends OptionTable = OptionTable> {
  /** kebab-case, verb-object; also the file's name. */
  readonly name: string
  /** Short name on the command line. */
  readonly alias?: string
  /** Names from before it was renamed: files that hold them go on working. */
  readonly formerly?: readonly string[]
  readonly summary: string
  readonly options: T
  /**
   * numerics: same outputs (to float rounding); interface: same inputs and outputs, other numbers; nothing: may change
   * inputs and outputs.
   */
  readonly preserves: 'numerics' | 'interface' | 'nothing'
  /** Training, exports and ptq run it where they need it; users seldom have to. */
  readonly isInner?: boolean
  /** It changes the weights of layers: its result says which it left alone. */
  readonly treatsWeights?: boolean
  /** It computes with weights: inputs with a default become constants first, unless --keep-overridable (overridable.ts). */
  readonly bakes?: boolean
  /** It receives a model of opset 1 to 6 as it is; all other passes get it at 7. */
  readonly setsOpset?: boolean
  /** Whether `ctx.calibration` is used. */
  readonly data?: 'optional' | 'required'
  /** Throws a model or usage error where the pass cannot apply. Must not change the model. */
  requires?(model: Model, options: OptionsOf<T>): void
  /** Edits the model in place and says whether it changed anything; a second run must change nothing. */
  run(model: Model, options: OptionsOf<T>, ctx: PassContext): Promise<boolean> | boolean
  /** Throws a bug error where the result is not what the pass promises. */
  ensures?(model: Model, options: OptionsOf<T>): void
}

/** Every name that a pass answers to, the one on the command line first. */
export const namesOf = ({ name, alias, formerly = [] }: PassDef): string[] => [
  ...(alias ? [alias] : []),
  name,
  ...formerly,
]

/** Declares a pass, which `mnc pass NAME` and recipes then take. */
export const definePass = <const T extends OptionTable>(def: PassDef<T>): PassDef<T> =>
  def.bakes ? { ...def, options: { ...def.options, ...overridableOptions } } : def
