/**
 * What models are judged by: the samples of one purpose, with what the float model says of each. A model is judged as the
 * file that ships is run, in a stock session of onnxruntime, and on the very same samples:
 *
 *   drop    accuracy of the float model less that of the other, with its interval (paired.ts); with labels
 *   cosine  sum a b / sqrt(sum a^2 sum b^2) over an output of a sample, its mean over the samples; of the worst output
 */
import { stopIfAborted } from '../base/long-run.ts'
import { planPair } from '../check/check.ts'
import { type Difference, pairedDifference } from '../evaluate/paired.ts'
import type { Model } from '../graph/model.ts'
import { ortExecutor } from '../runtime/ort/ort.ts'
import type { BatchPlan } from '../samples/batch-plan.ts'
import { runSamples } from '../samples/run-samples.ts'
import { runnable } from '../train/step/lift.ts'
import { isFloatOutput, scoresOutput } from '../train/step/outputs.ts'
import type { SampleSource } from './sample-source.ts'

export interface Judgement {
  readonly samples: number
  /** Accuracy, and that of the float model; null without labels. */
  readonly top1: number | null
  readonly float: number | null
  readonly difference: Difference | null
  readonly cosine: number
}

export interface PanelOptions {
  readonly threads: number
  readonly signal?: AbortSignal | undefined
  readonly onProgress?: ((label: string, done: number, total: number) => void) | undefined
}

type Rows = readonly ArrayLike<number>[]

interface Answers {
  /** By output, then by sample. */
  readonly outputs: readonly Rows[]
  /** 1 where the answer is right; null without labels. */
  readonly right: Uint8Array | null
}

export class Panel {
  readonly #float: Model
  readonly #source: SampleSource
  readonly #options: PanelOptions
  readonly #answers: Answers
  /** That the float model takes for a sample. */
  readonly secondsPerSample: number

  private constructor(float: Model, source: SampleSource, options: PanelOptions, answers: Answers, seconds: number) {
    this.#float = float
    this.#source = source
    this.#options = options
    this.#answers = answers
    this.secondsPerSample = seconds
  }

  static async of(float: Model, source: SampleSource, options: PanelOptions): Promise<Panel> {
    const start = performance.now()
    const model = runnable(float)
    const answers = await answersOf(model, model, source, options, 'float model')
    const seconds = (performance.now() - start) / 1000 / Math.max(1, answers.outputs[0]?.length ?? 1)
    return new Panel(model, source, options, answers, seconds)
  }

  get samples(): number {
    return this.#answers.outputs[0]?.length ?? 0
  }

  /** Accuracy of the float model; null without labels. */
  get top1(): number | null {
    return shareOf(this.#answers.right)
  }

  async judge(model: Model): Promise<Judgement> {
    const got = await answersOf(this.#float, runnable(model), this.#source, this.#options, 'file')
    const { outputs, right } = this.#answers
    const cosines = outputs.map((rows, k) => meanCosine(rows, got.outputs[k]!))
    return {
      samples: this.samples,
      ...{ top1: shareOf(got.right), float: this.top1 },
      difference: right && got.right && pairedDifference(right, got.right),
      cosine: Math.min(...cosines),
    }
  }
}

const shareOf = (right: Uint8Array | null): number | null =>
  right && right.reduce((n, r) => n + r, 0) / Math.max(1, right.length)

async function answersOf(
  float: Model,
  model: Model,
  source: SampleSource,
  o: PanelOptions,
  label: string,
): Promise<Answers> {
  const scored = scoresOutput(float.graph.outputs)
  const compared = float.graph.outputs.map((v, i) => ({ v, i })).filter(({ v }) => isFloatOutput(v))
  const names = compared.map(({ i }) => model.graph.outputs[i]!.name)
  const scores = compared.findIndex(({ v }) => v === scored)
  const outputs: ArrayLike<number>[][] = names.map(() => [])
  const right: number[] = []
  let labelled = true
  let plan: { readonly model: BatchPlan; rename: Awaited<ReturnType<typeof planPair>>['rename'] } | null = null
  const session = await ortExecutor().load(model, { threads: o.threads })
  try {
    for await (const batch of source.batches()) {
      stopIfAborted(o.signal)
      plan ??= await planPair(float, model, batch)
      const rows = await runSamples(session, plan.model, plan.rename(batch.feeds), batch.count, names)
      for (const [k, name] of names.entries()) outputs[k]!.push(...rows[name]!)
      if (!batch.labels) labelled = false
      else for (let i = 0; i < batch.count; i++) right.push(best(rows[names[scores]!]![i]!) === batch.labels[i] ? 1 : 0)
      o.onProgress?.(label, outputs[0]?.length ?? 0, source.count)
    }
  } finally {
    await session.dispose()
  }
  return { outputs, right: labelled ? Uint8Array.from(right) : null }
}

/** Index of the largest value; the first of equals. What is not a number is the answer of nobody. */
function best(values: ArrayLike<number>): number {
  let top = 0
  for (let i = 0; i < values.length; i++) {
    if (Number.isNaN(values[i]!)) return -1
    if (values[i]! > values[top]!) top = i
  }
  return top
}

const meanCosine = (wanted: Rows, got: Rows): number =>
  wanted.reduce((sum, row, i) => sum + cosine(row, got[i]!), 0) / Math.max(1, wanted.length)

/** Of two outputs that are zero: 1; of numbers that are not finite: 0. */
function cosine(a: ArrayLike<number>, b: ArrayLike<number>): number {
  let [ab, aa, bb] = [0, 0, 0]
  for (let i = 0; i < a.length; i++) {
    ab += a[i]! * b[i]!
    aa += a[i]! ** 2
    bb += b[i]! ** 2
  }
  if (aa === 0 && bb === 0) return 1
  const cos = aa === 0 || bb === 0 ? 0 : ab / Math.sqrt(aa * bb)
  return Number.isFinite(cos) ? cos : 0
}
