/** What a check is given and what it finds. */
import type { Tensor } from '../graph/tensor.ts'

/** Samples that two models are compared on. */
export interface CheckBatch {
  /** By the reference's input names. */
  readonly feeds: Readonly<Record<string, Tensor>>
  /** Class of each sample; without labels there is no accuracy. */
  readonly labels?: Int32Array | null | undefined
  /** Samples in it. */
  readonly count: number
}

export type Level = 'disabled' | 'all'

export interface LevelResult {
  /** Fraction of correct answers, null without labels. */
  readonly top1: number | null
  /** reference.top1 - top1. */
  readonly drop: number | null
  /** Of all outputs. */
  readonly maxAbsError: number
  /** Of all outputs: largest error over the reference's largest |value| there. */
  readonly maxRelError: number
  /** Where maxRelError is, by the reference's name; null where nothing differs. */
  readonly worstOutput: string | null
  /** Fraction of samples with the same best class in both. */
  readonly agreement: number
  /** Fraction of samples of which every output is within 1e-4 of the reference, relative to that output's largest |value|. */
  readonly equal: number
}

/** A metric of both models. */
export interface MetricChange {
  readonly reference: number
  readonly model: number
  /** How much worse the model's is, in the metric's own unit; below 0 where it is better. */
  readonly worse: number
}

/** What a model lost against its reference. */
export interface CheckResult {
  readonly samples: number
  /** Inputs were random: nothing here says anything about accuracy. */
  readonly random: boolean
  /** Names, in the reference, of the outputs that are compared. */
  readonly outputs: readonly string[]
  readonly reference: {
    readonly top1: number | null
    /**
     * How far the reference is from itself at ORT_ENABLE_ALL (without onnxruntime's own requantising), on the first
     * batch: the effect of float rounding alone where quantisers turn it into whole levels. null where it does not load.
     */
    readonly noise: { readonly maxRelError: number; readonly equal: number } | null
  }
  /** At ORT_ENABLE_ALL, which is what a stock session does. */
  readonly model: { readonly top1: number | null }
  /** The larger of the two levels. */
  readonly drop: number | null
  readonly maxAbsError: number
  readonly maxRelError: number
  readonly byOptimisation: Readonly<Record<Level, LevelResult>>
  /** By name: those that were asked for, of stock sessions. */
  readonly metrics?: Readonly<Record<string, MetricChange>>
}
