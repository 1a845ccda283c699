/** The record of a stage, written next to its model. */
import type { CheckResult } from '../check/check.ts'
import type { CheckGates } from '../check/check-options.ts'
import type { Evaluation } from '../evaluate/evaluate.ts'
import type { MetricResult } from '../evaluate/measure.ts'
import type { ExportReport } from '../export/export-report.ts'
import type { ScoreReport } from '../score/report.ts'
import type { TrainSummary } from '../train/loop/trainer.ts'

/** What is measured of a stage's file. */
export interface StageMetrics {
  /** On the test split; null where nothing is measured. */
  readonly eval: Evaluation | null
  /** By name: those besides accuracy. */
  readonly metrics?: Readonly<Record<string, MetricResult>>
  /** Of the file. */
  readonly bytes: number
  readonly parameters: number
  readonly macs: number | null
  /** Fraction of the layers' weights that are zero. */
  readonly sparsity: number
  /** Mean over the layers' weights, and over their multiply-accumulates. */
  readonly weightBits: number
  readonly activationBits: number
  readonly score: Omit<ScoreReport, 'layers'> | null
  readonly checks: readonly { readonly against: string; readonly gates: CheckGates; readonly result: CheckResult }[]
}

/** The state of a file when it was read, or of a folder when it was listed; null if nothing was there. */
export type Stamp = { readonly size: number; readonly mtime: number; readonly sha256: string } | null

/** By path, from the work folder. */
export type Stamps = Readonly<Record<string, Stamp>>

/** What the work folder keeps of a stage. */
export interface StageRecord {
  readonly recipe: string
  readonly stage: string
  /** Place in the recipe, from 0; missing in records of version 0.1.0. */
  readonly index?: number
  readonly version: string
  readonly status: 'running' | 'done'
  /** Hash of what the graph is made from. */
  readonly key: string
  /** Hash of what is measured. */
  readonly measureKey: string
  /** What went into `key`, for people. */
  readonly settings: Readonly<Record<string, unknown>>
  /** SHA-256 of the model file. */
  readonly output?: string
  /** What was read to make the graph, and to measure it. */
  readonly reads?: { readonly make: Stamps; readonly measure?: Stamps }
  /** Wall-clock seconds, measurement included; of the last run where a stage was resumed. */
  readonly seconds?: number
  readonly train?: TrainSummary | null
  readonly export?: Omit<ExportReport, 'tensors'> | null
  /** Of the graph after an export. */
  readonly activationBits?: number | null
  readonly metrics?: StageMetrics
}
