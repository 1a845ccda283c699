/** What a run tells on the way, and what it comes to. */
import type { CheckResult } from '../check/check.ts'
import type { PtqEvent } from '../ptq/ptq.ts'
import type { RunEvent } from '../recipes/run.ts'
import type { Asked, Verdict } from './choose.ts'
import type { Judgement } from './panel.ts'
import type { Point } from './point.ts'

/** What a look at the model and the data gave. */
export interface Found {
  readonly bytes: number
  readonly opset: number
  readonly parameters: number
  readonly macs: number | null
  readonly layers: number
  /** Layers by operator. */
  readonly ops: Readonly<Record<string, number>>
  /** What the model's user should know: statistics of BatchNormalization, 16-bit floats. */
  readonly remarks: readonly string[]
  readonly labelled: boolean
  /** Samples that may be quantised and trained on, that are held out to choose by, and that give the figure. */
  readonly samples: { readonly fitted: number; readonly held: number; readonly test: number }
  /** Of the float model on the samples held out; null without labels. */
  readonly top1: number | null
  /** The same of those samples mixed in pairs, by which is chosen where the model knows them by heart; else null. */
  readonly mixed: number | null
  /** With which a drop of maxDrop could be told from none; null without labels. */
  readonly needed: number | null
  readonly preprocess: string | null
  /** Milliseconds of a run of one sample on one thread; null before it is measured. */
  readonly latency: number | null
}

export interface PlannedStage {
  readonly stage: StageName
  readonly text: string
  /** About how long, on this machine; null where it is not known before. */
  readonly seconds: number | null
}

export type StageName = 'look' | 'quantise' | 'layers' | 'split' | 'fine-tune' | 'check'

/** What `compress` reports while it runs. */
export type CompressEvent =
  | { readonly kind: 'found'; readonly found: Found }
  | { readonly kind: 'plan'; readonly asked: Asked; readonly target: string; readonly stages: readonly PlannedStage[] }
  | { readonly kind: 'stage'; readonly stage: StageName; readonly text: string; readonly secondsLeft: number | null }
  | { readonly kind: 'ptq'; readonly point: string; readonly event: PtqEvent }
  | { readonly kind: 'run'; readonly point: string; readonly event: RunEvent }
  | { readonly kind: 'progress'; readonly label: string; readonly done: number; readonly total: number }
  | {
      readonly kind: 'point'
      readonly point: Point
      readonly verdict: Verdict
      readonly best: Point
      readonly isNew: boolean
    }
  | { readonly kind: 'failed'; readonly point: string; readonly reason: string }
  | { readonly kind: 'log'; readonly message: string }

/** What `compress` found: the file, and the curve that it is on. */
export interface CompressResult {
  readonly workdir: string
  readonly target: string
  readonly asked: Asked
  readonly found: Found
  /** All that were made, from small to large. */
  readonly points: readonly Point[]
  readonly chosen: Point
  readonly verdict: Verdict
  /** On the test samples, which had no part in any choice. */
  readonly test: Judgement
  /** The file against the graph that it was made from. */
  readonly check: Pick<CheckResult, 'samples' | 'byOptimisation'>
  /** What whoever uses the file should know; sentences. */
  readonly notes: readonly string[]
  /** What it would take, where what was asked for is missed; sentences. */
  readonly advice: readonly string[]
  readonly seconds: number
}
