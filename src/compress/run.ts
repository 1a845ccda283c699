/** What the stages of a run share. */
import type { TargetDef } from '../export/targets/target.ts'
import type { Model } from '../graph/model.ts'
import type { RecipeFacts } from '../ptq/recipe-of.ts'
import type { Asked } from './choose.ts'
import type { CompressOptions } from './compress-options.ts'
import type { Panel } from './panel.ts'
import type { Samples } from './samples.ts'
import type { Work } from './work.ts'

export interface Run {
  readonly float: Model
  /** Of its file. */
  readonly floatBytes: number
  readonly work: Work
  readonly samples: Samples
  /** Judges by the samples that are held out. */
  readonly panel: Panel
  readonly o: CompressOptions
  /** Samples of the training split that quantising calibrates on. */
  readonly limit: number
  readonly target: TargetDef
  readonly asked: Asked
  /** Most bits of weights: 7 where the fastest file here is wanted and 8 would be cut off (export/saturating-sums.ts). */
  readonly widest: 7 | 8
  /** Hash of everything that points depend on. */
  readonly identity: string
  readonly recipeFacts: RecipeFacts
  readonly seed: number
  readonly signal: AbortSignal | undefined
  readonly cache: string | undefined
}
