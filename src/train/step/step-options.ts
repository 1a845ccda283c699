/** What a training step is built from, and the result (step-graph.ts). */
import type { Model } from '../../graph/model.ts'
import type { InputAdapter } from '../../passes/merge-teacher.ts'
import type { DataGoal } from './data-targets.ts'
import type { FlatLayout } from './flat-layout.ts'
import type { LossOptions, Objective, Supervision } from './objectives.ts'
import type { OptimizerOptions } from './optimizers.ts'

export interface StepOptions extends LossOptions, Supervision {
  /** Images in one run of the step graph. */
  readonly batch: number
  /** Dims of the model's inputs by name, batch included; needed for models with several, or with dynamic dims other than the batch. */
  readonly inputDims?: Readonly<Record<string, readonly number[]>> | undefined
  /** Runs of the step graph that one update averages over; 1 by default. */
  readonly accumulate?: number | undefined
  readonly optimizer: OptimizerOptions
  readonly teacher?: TeacherOptions | undefined
  /** false: BatchNormalization keeps normalising by its running statistics. */
  readonly batchStatistics: boolean
  /** Processes whose batches together BatchNormalization takes its statistics of; 1 by default. */
  readonly ranks?: number | undefined
  /** Parts in which the batch is processed (tile-batch.ts); chosen by the sizes of activations where absent. */
  readonly tiles?: number | undefined
  /** The engine has native kernels (lowerings/native/), which are given whole batches of what they normalise. */
  readonly native?: boolean | undefined
  /** Train the quantiser scales too (LSQ). */
  readonly learnScales: boolean
  /** float16: operations for which it is enough compute in it (mixed-precision.ts). */
  readonly precision?: 'float32' | 'float16' | undefined
  /** Nodes say what they are for (origins.ts). */
  readonly origins?: boolean | undefined
  /** Factors on the weight decay and learning rate of each parameter, by initializer name. */
  readonly weightDecayOf?: ((name: string) => number) | undefined
  readonly learningRateOf?: ((name: string) => number) | undefined
}

export interface TeacherOptions {
  /** In inference form, upgraded to WORKING_OPSET, BN folded if that is wanted. */
  readonly model: Model
  readonly adapter?: InputAdapter | undefined
  /** Normalise the teacher by batch statistics (the published way) instead of its running ones. */
  readonly batchStatistics: boolean
  /**
   * The variance of each output of this part of the step, which reads the step's own inputs (teacher-variance.ts); called
   * if a loss divides by it.
   */
  readonly variances?: ((part: Model, inputName: string) => Promise<readonly number[]>) | undefined
}

export interface StepGraph {
  readonly model: Model
  /** The optimiser's update, where gradients are accumulated; part of `model` otherwise. */
  readonly update: Model | null
  readonly inputName: string
  readonly inputDims: readonly number[]
  readonly weights: FlatLayout
  readonly statistics: FlatLayout
  /** The factor of each statistic in `moved` (running-statistics.ts), where gradients are accumulated. */
  readonly statisticsKeep: Float32Array
  /** Constants that the host may change between steps. */
  readonly host: FlatLayout
  readonly slots: readonly string[]
  /** The loss is multiplied by the input `loss_scale`. */
  readonly lossScaled: boolean
  /** The loss of each output; the output `losses` has their values. */
  readonly objectives: readonly Objective[]
  /** By output: the arrays of the data that the step is fed. */
  readonly goals: ReadonlyMap<string, DataGoal>
  /** Of the logits, batch included, where known. */
  readonly outputDims: readonly number[] | null
  /** Classes of the output, where a label loss is used. */
  readonly classes: number | null
}

/** Names of initializers that the host may change between steps, e.g. masks that are recomputed. */
export type HostSelector = (name: string) => boolean
