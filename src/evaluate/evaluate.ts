/** Accuracy of a classifier over a data set, in onnxruntime. */
import { modelError } from '../base/errors.ts'
import { inModelOrder } from '../data/class-order.ts'
import type { Dataset } from '../data/dataset.ts'
import { evalBatches, imageTensor } from '../data/eval-batches.ts'
import { imagePlan } from '../data/image-plan.ts'
import { checkClasses, type Preprocess } from '../data/preprocess.ts'
import type { Value } from '../graph/graph.ts'
import type { Model } from '../graph/model.ts'
import { findOp } from '../ops/index.ts'
import { alone, type Group } from '../ranks/group.ts'
import type { Executor, Fallback, LoadOptions, Session } from '../runtime/executor.ts'
import { ortExecutor } from '../runtime/ort/ort.ts'
import type { BatchPlan } from '../samples/batch-plan.ts'
import { runSamples } from '../samples/run-samples.ts'
import { liftedFor } from '../train/step/lift.ts'
import { keepsOrder, scoresOutput } from '../train/step/outputs.ts'
import { soleInput } from '../train/step/step-inputs.ts'
import { gatherTallies, type Tally, tallyOf } from './tally.ts'

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
  /** Processes that share the batches; each gets the whole result. */
  readonly group?: Group
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
  dataset: Dataset,
  preprocess: Preprocess,
  options: EvaluateOptions = {},
): Promise<Evaluation> {
  const { executor = ortExecutor() } = options
  checkClasses(model, dataset)
  const lifted = await liftedFor(executor, model)
  const batch = options.batch ?? BATCH
  // in a separate process, before the model is run here
  const plan = options.plan ?? (await imagePlan(model, preprocess, Math.min(batch, dataset.size)))
  const session = await executor.load(lifted, { ...FAST_EVALUATION, ...options.load })
  options.onFallbacks?.(session.fallbacks)
  try {
    const data = inModelOrder(model, dataset)
    return await evaluateSession(session, model, data, preprocess, { ...options, batch, plan })
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
  dataset: Dataset,
  preprocess: Preprocess,
  options: EvaluateOptions & Required<Pick<EvaluateOptions, 'batch' | 'plan'>>,
): Promise<Evaluation> {
  const input = soleInput(model.graph)
  const output = scoresOutput(model.graph.outputs) ?? model.graph.outputs[0]!
  const probabilities = isProbability(output)
  const elem = input.type?.elem
  const { group = alone } = options
  const own: Tally[] = []
  let [seconds, done] = [0, 0]
  for await (const batch of evalBatches(dataset, preprocess, options.batch, { rank: group.rank, of: group.size })) {
    options.signal?.throwIfAborted()
    const feeds = { [input.name]: imageTensor(preprocess, batch.count, batch.images, elem) }
    const start = performance.now()
    const out = await runSamples(session, options.plan, feeds, batch.count, [output.name])
    seconds += (performance.now() - start) / 1000
    own.push(tallyOf(out[output.name]!, batch.labels, dataset.classes, probabilities))
    done += batch.count * group.size
    options.onProgress?.(Math.min(done, dataset.size), dataset.size)
  }
  return evaluationOf(gatherTallies(group, own, Math.ceil(dataset.size / options.batch)), seconds)
}

/** `tallies`: of all batches, in their order; sums do not depend on which process made them. */
function evaluationOf(tallies: readonly Tally[], seconds: number): Evaluation {
  const total = (of: (t: Tally) => number): number => tallies.reduce((sum, t) => sum + of(t), 0)
  const samples = total((t) => t.samples)
  const n = Math.max(1, samples)
  return {
    samples,
    top1: total((t) => t.top1) / n,
    top5: total((t) => t.top5) / n,
    loss: total((t) => t.loss) / n,
    imagesPerSecond: samples / Math.max(seconds, 1e-9),
  }
}

/** Whether the scores are probabilities already; logarithms of them are as good as logits. */
function isProbability(output: Value): boolean {
  const n = output.producer
  if (n && keepsOrder(n)) return isProbability(n.input(0))
  return n !== null && findOp(n)?.distribution === 'linear'
}
