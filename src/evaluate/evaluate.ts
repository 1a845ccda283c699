/** Accuracy of a classifier over a data set, in onnxruntime. */
import { modelError, usageError } from '../base/errors.ts'
import type { SampleSet } from '../data/array-set.ts'
import { checkClasses, type Preprocess, statedClasses } from '../data/preprocess.ts'
import { type SampleBatch, sampleBatches, samplePlan } from '../data/sample-set.ts'
import type { Value } from '../graph/graph.ts'
import type { Model } from '../graph/model.ts'
import { findOp } from '../ops/index.ts'
import type { Executor, Fallback, LoadOptions, Session } from '../runtime/executor.ts'
import { ortExecutor } from '../runtime/ort/ort.ts'
import type { BatchPlan } from '../samples/batch-plan.ts'
import { runSamples } from '../samples/run-samples.ts'
import { liftedFor } from '../train/step/lift.ts'
import { keepsOrder, scoresOutput } from '../train/step/outputs.ts'

export interface EvaluateOptions {
  /** Images in a batch; 100 by default. A model that runs at one batch only takes its own. */
  readonly batch?: number
  /** How the model takes images, where that is known; found by running it otherwise. */
  readonly plan?: BatchPlan
  readonly load?: LoadOptions
  /** onnxruntime's CPU by default. */
  readonly executor?: Executor
  /** Called with what runs on the CPU although the executor's device is another. */
  readonly onFallbacks?: (fallbacks: readonly Fallback[]) => void
  readonly onProgress?: (done: number, total: number) => void
  readonly signal?: AbortSignal
}

export interface Evaluation {
  readonly samples: number
  /** Fractions in [0, 1]. */
  readonly top1: number
  readonly top5: number
  /** Mean cross entropy, nats. */
  readonly loss: number
  readonly imagesPerSecond: number
}

/**
 * Folds every Q/DQ pair of constant weights at load. Without it onnxruntime dequantises 4-bit weights on every run;
 * results are the same bits.
 */
const FAST_EVALUATION: LoadOptions = { config: { 'session.disable_quant_qdq': '1' } }

const BATCH = 100

/**
 * Labels are read in the order of classes that the model's metadata gives, if it does. Model error for outputs that are
 * not [N, classes] scores or whose class count is not the data set's.
 */
export async function evaluate(
  model: Model,
  dataset: SampleSet,
  preprocess: Preprocess | undefined,
  options: EvaluateOptions = {},
): Promise<Evaluation> {
  const { executor = ortExecutor() } = options
  if (!dataset.isLabelled) throw usageError(`${dataset.name} has no labels to measure accuracy with`)
  checkClasses(model, dataset)
  const lifted = await liftedFor(executor, model)
  const batch = options.batch ?? BATCH
  // in a separate process, before the model is run here
  const plan = options.plan ?? (await samplePlan(model, dataset, preprocess, Math.min(batch, dataset.size)))
  const session = await executor.load(lifted, { ...FAST_EVALUATION, ...options.load })
  options.onFallbacks?.(session.fallbacks)
  try {
    return await evaluateSession(session, model, dataset, preprocess, { ...options, batch, plan })
  } finally {
    await session.dispose()
  }
}

/** A model error for a loss that is not a number: the accuracy means nothing then. */
export function checkMeasured(result: Evaluation, file?: string): void {
  if (Number.isNaN(result.loss))
    throw modelError(
      'nan-loss',
      `the loss is NaN: scores of some of the ${result.samples} images are NaN or infinite`,
      {
        file,
        next: 'check --mean, --std and --scale, and look for weights that are not finite',
      },
    )
}

async function evaluateSession(
  session: Session,
  model: Model,
  dataset: SampleSet,
  preprocess: Preprocess | undefined,
  options: EvaluateOptions & Required<Pick<EvaluateOptions, 'batch' | 'plan'>>,
): Promise<Evaluation> {
  const output = scoresOutput(model.graph.outputs) ?? model.graph.outputs[0]!
  const probabilities = isProbability(output)
  const totals = new Scores(statedClasses(model) ?? dataset.classes, probabilities)
  let seconds = 0
  for await (const batch of sampleBatches(model, dataset, preprocess, options.batch)) {
    options.signal?.throwIfAborted()
    const start = performance.now()
    const out = await runSamples(session, options.plan, batch.feeds, batch.count, [output.name])
    seconds += (performance.now() - start) / 1000
    totals.add(out[output.name]!, batch)
    options.onProgress?.(totals.samples, dataset.size)
  }
  return totals.result(seconds)
}

/** Whether the scores are probabilities already; logarithms of them are as good as logits. */
function isProbability(output: Value): boolean {
  const n = output.producer
  if (n && keepsOrder(n)) return isProbability(n.input(0))
  return n !== null && findOp(n)?.distribution === 'linear'
}

const TOP = 5

class Scores {
  samples = 0
  #top1 = 0
  #top5 = 0
  #loss = 0
  readonly #classes: number
  readonly #probabilities: boolean

  constructor(classes: number, probabilities: boolean) {
    this.#classes = classes
    this.#probabilities = probabilities
  }

  /** The scores of each image. */
  add(scores: readonly ArrayLike<number>[], { labels, count }: SampleBatch): void {
    for (const [i, values] of scores.entries()) {
      if (values.length !== this.#classes)
        throw modelError(
          'class-count',
          `the model returns ${values.length} scores per image, but the data have ${this.#classes} classes`,
        )
      this.#addRow(values, labels![i]!)
    }
    this.samples += count
  }

  #addRow(values: ArrayLike<number>, label: number): void {
    const own = values[label]!
    let better = Number.isNaN(own) ? TOP : 0
    let max = Number.NEGATIVE_INFINITY
    let sum = 0
    for (let c = 0; c < values.length; c++) {
      const v = values[c]!
      if (v > max) max = v
      // ties go to the lower class, as with argmax; NaN beats everything
      if (c !== label && !(v < own || (v === own && c > label))) better++
    }
    if (better === 0) this.#top1++
    if (better < TOP) this.#top5++
    if (this.#probabilities) {
      this.#loss -= Math.log(Math.max(own, Number.MIN_VALUE))
      return
    }
    for (let c = 0; c < values.length; c++) sum += Math.exp(values[c]! - max)
    this.#loss += max + Math.log(sum) - own
  }

  result(seconds: number): Evaluation {
    const n = Math.max(1, this.samples)
    return {
      samples: this.samples,
      top1: this.#top1 / n,
      top5: this.#top5 / n,
      loss: this.#loss / n,
      imagesPerSecond: this.samples / Math.max(seconds, 1e-9),
    }
  }
}
