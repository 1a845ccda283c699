/** What a training run takes, reports along the way, and returns. */
import type { LongRun } from '../../base/long-run.ts'
import type { Preprocess } from '../../data/preprocess.ts'
import type { TrainingData } from '../../data/random-options.ts'
import type { Model } from '../../graph/model.ts'
import type { Group } from '../../ranks/group.ts'
import type { Executor, Fallback } from '../../runtime/executor.ts'
import type { RanksOptions } from '../ranks-options.ts'
import type { Objective } from '../step/objectives.ts'
import type { TrainOptionsInput } from '../train-options.ts'
import type { StepProfile } from './step-profile.ts'

/** Data and options of `train`. */
export interface TrainRun extends Pick<LongRun, 'signal'> {
  /**
   * Images to train on; a part is held out of them by `valFraction`. `random`: normal numbers in the shape of the
   * model's input, for distillation without data.
   */
  readonly data: TrainingData
  /** How pixels become the model's input; not asked for with random inputs. */
  readonly preprocess?: Preprocess | undefined
  readonly teacher?: { readonly model: Model; readonly preprocess?: Preprocess | undefined } | undefined
  /** 0 by default. */
  readonly seed?: number
  readonly options?: TrainOptionsInput
  /** Where checkpoints go (and the best epoch's model next to them); none are written without. */
  readonly checkpoint?: string | undefined
  /** Minutes between checkpoints; one is written at each epoch's end besides. Default 10. */
  readonly checkpointMinutes?: number
  /** Steps between checkpoints, besides. */
  readonly checkpointSteps?: number | undefined
  /** Go on from the checkpoint where there is one. */
  readonly resume?: boolean
  /** Distinguishes this run's inputs from others beyond what the run sees (say, a hash of the files): part of checkpoints. */
  readonly identity?: string | undefined
  /** The processes that train together: each takes an equal share of every step's batches. One by itself where absent. */
  readonly ranks?: ({ readonly group: Group } & RanksOptions) | undefined
  /** Used in place of the option `device`. */
  readonly executor?: Executor
  /** Folder in which large training steps are kept for the next run, see session-cache.ts; without it they are not kept. */
  readonly cache?: string | undefined
  /** Where to write the engine's profile, a Chrome trace; without it the run is not profiled. */
  readonly profile?: string | undefined
}

/** How a run is kept under a limit of memory. Bytes are of the whole process at its peak. */
export interface MemoryPlan {
  readonly limit: number
  /** Expected. */
  readonly bytes: number
  /** How many of the step's activations are computed again rather than kept. */
  readonly recomputed: number
  readonly activations: number
  /** Inputs in a run of the step graph, and the runs that each batch of the options is divided into. */
  readonly batch: number
  readonly runs: number
}

/** Training is about to begin, or goes on from a checkpoint. */
export interface StartEvent {
  readonly kind: 'start'
  /** Elements that are trained. */
  readonly parameters: number
  readonly stepsPerEpoch: number
  readonly totalSteps: number
  /** Runs of the step graph that a step takes, on all ranks together, and inputs in each. */
  readonly runs: number
  readonly batch: number
  /** The step at which the run starts: 0 for a new one. */
  readonly step: number
  readonly device: string
  /** What each output is taught. */
  readonly objectives: readonly Objective[]
  /** The nodes of a step that run on the CPU although the device is another. */
  readonly fallbacks: readonly Fallback[]
  /** Where memory is limited. */
  readonly memory?: MemoryPlan
  /** What was done to the model that its user should know. */
  readonly warnings: readonly string[]
  /** Seconds that building and loading the step took. */
  readonly seconds: number
}

/** A step was done. */
export interface StepEvent {
  readonly kind: 'step'
  /** From 0. */
  readonly step: number
  readonly epoch: number
  /** Before this step's update. */
  readonly loss: number
  /** By output name, where several have a loss; times their weights, so that they add up to the loss. */
  readonly losses?: Readonly<Record<string, number>>
  readonly lr: number
  /** L2 norm over all parameters, before clipping. */
  readonly gradientNorm: number
  /** In mixed precision. Where the gradient overflowed its norm is not finite, and the step changed nothing. */
  readonly lossScale?: number
  /**
   * How undecided the teacher is, 0 to 1: the mean over positions, and over the outputs that are distributions (losses.ts);
   * in the first step of a run that compares distributions.
   */
  readonly teacherEntropy?: number
  /** Fraction of the step's images that were classified correctly; null without labels. */
  readonly top1: number | null
  readonly imagesPerSecond: number
}

/** An epoch has ended. */
export interface EpochEvent {
  readonly kind: 'epoch'
  readonly epoch: number
  readonly valLoss: number | null
  readonly valTop1: number | null
  /** Of `metric`, where it is not accuracy. */
  readonly valMetric?: { readonly name: string; readonly value: number }
}

/** A checkpoint was written. */
export interface CheckpointEvent {
  readonly kind: 'checkpoint'
  /** Steps done. */
  readonly step: number
  readonly path: string
}

/** After the last step of a run that is profiled. */
export interface ProfileEvent {
  readonly kind: 'profile'
  readonly profile: StepProfile
}

/** The process has taken more memory than it was to: said once. */
export interface MemoryEvent {
  readonly kind: 'memory'
  /** Bytes. */
  readonly peak: number
  readonly limit: number
}

/** What `train` reports while it runs. */
export type TrainEvent = StartEvent | StepEvent | EpochEvent | CheckpointEvent | MemoryEvent | ProfileEvent

/** What a run of training came to. */
export interface TrainSummary {
  /** Steps done in total. */
  readonly steps: number
  /** Mean loss of the last epoch's steps; null where there was no step. */
  readonly loss: number | null
  /** With `valFraction`: the epoch whose weights the model has now, and its accuracy. */
  readonly bestEpoch: number | null
  readonly valTop1: number | null
  readonly valMetric?: { readonly name: string; readonly value: number }
  /** The options that the run had in place of its own, where a limit of memory divided its batches. */
  readonly divided?: { readonly batch: number; readonly accumulate: number }
}
