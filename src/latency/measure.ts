/**
 * Latency of models side by side: all are loaded and warmed up, then run in turn, round after round, so that other load
 * on the machine affects all of them alike. A round runs each model for at least BLOCK_MS; its time over its runs is one
 * value. Ratios are taken round by round and then their median, with a 95 % interval: a ratio whose interval holds 1 is
 * within the noise.
 */

import { readFileBytes } from '../base/files.ts'
import { type LongRun, stopIfAborted } from '../base/long-run.ts'
import { parseOptions } from '../base/options.ts'
import type { Model } from '../graph/model.ts'
import type { Executor, Session } from '../runtime/executor.ts'
import { peakMemory } from '../runtime/isolated/engine.ts'
import { ortExecutor } from '../runtime/ort/ort.ts'
import { loadEngine } from '../runtime/ort-session.ts'
import { type BatchPlan, batchPlan, dimsAt } from '../samples/batch-plan.ts'
import { randomFeeds } from '../samples/random-feeds.ts'
import { type LatencyOptions, latencyOptions } from './latency-options.ts'
import { type Estimate, estimate } from './statistics.ts'

/** A file whose speed is to be measured. */
export interface Candidate {
  readonly file: string
  readonly model: Model
}

export interface Measured {
  readonly file: string
  /** Samples in a run; differs from the number requested if the model takes another number only. */
  readonly batch: number
  /** Time to load the file into a session, ms. */
  readonly loadMs: number
  /** Bytes that loading it and one run take at their peak, not counting the engine; null where the system does not say. */
  readonly memory: number | null
  readonly runs: number
  /** Of one run, ms. */
  readonly latency: Estimate
  /** Samples per second, from the median. */
  readonly throughput: number
  /** Throughput over that of the first model; null for the first itself. */
  readonly speedup: Estimate | null
}

/** How fast files run at a number of threads and a batch. */
export interface Setting {
  readonly threads: number
  readonly batch: number
  readonly models: readonly Measured[]
}

/** Any shorter, and the clock and the call would count for too much. */
const BLOCK_MS = 10
const LEAST_ROUNDS = 11

/** Progress counts seconds. */
export interface LatencyRun extends LongRun {
  /** Of the inputs; 0 by default. */
  readonly seed?: number
  /** onnxruntime's CPU by default. */
  readonly executor?: Executor
}

/** Every combination of threads and batch, in their order. Errors: those of loading and of finding a working batch. */
export async function measureLatency(
  candidates: readonly Candidate[],
  options: LatencyOptions = {},
  { seed = 0, executor = ortExecutor(), signal, onProgress }: LatencyRun = {},
): Promise<Setting[]> {
  const { threads, batch, seconds } = parseOptions(latencyOptions, options, 'bench')
  const settings = threads.flatMap((t) => batch.map((b) => ({ threads: t, batch: b })))
  const total = settings.length * seconds * candidates.length
  const out: Setting[] = []
  if (executor.opset === undefined) await loadEngine()
  for (const { threads, batch } of settings) {
    const begun = out.length * seconds * candidates.length
    const runners: Runner[] = []
    try {
      for (const c of candidates) {
        stopIfAborted(signal)
        runners.push(await Runner.load(c, executor, { threads, batch, seed }))
      }
      await alternate(runners, seconds * 1000 * runners.length, (ms) => {
        stopIfAborted(signal)
        onProgress?.(begun + ms / 1000, total)
      })
      out.push({ threads, batch, models: runners.map((r) => r.measured(runners[0]!)) })
    } finally {
      for (const r of runners) await r.dispose()
    }
  }
  return out
}

async function alternate(runners: readonly Runner[], ms: number, onTime: (ms: number) => void): Promise<void> {
  for (const r of runners) await r.warmUp()
  const start = performance.now()
  for (let round = 0; round < LEAST_ROUNDS || performance.now() - start < ms; round++) {
    // the first model finds other caches than the one after it
    const order = round % 2 === 0 ? runners : [...runners].reverse()
    for (const r of order) await r.block()
    onTime(Math.min(ms, performance.now() - start))
  }
}

interface Loaded extends Pick<Measured, 'file' | 'loadMs' | 'memory'> {
  readonly session: Session
  readonly plan: BatchPlan
  readonly feeds: Parameters<Session['run']>[0]
}

class Runner {
  readonly #loaded: Loaded
  /** Runs in a block. */
  #runs = 1
  /** Of one run, by round. */
  readonly #times: number[] = []

  private constructor(loaded: Loaded) {
    this.#loaded = loaded
  }

  static async load(
    { file, model }: Candidate,
    executor: Executor,
    { threads, batch, seed }: { readonly threads: number; readonly batch: number; readonly seed: number },
  ): Promise<Runner> {
    const plan = await batchPlan(model, batch)
    const feeds = randomFeeds(model)(dimsAt(plan, plan.batch), [seed])
    const memory = executor.device.id === 'cpu' ? await peakMemory(model, feeds, { threads }) : null
    const given = executor.opset === undefined ? await readFileBytes(file) : model
    const start = performance.now()
    const session = await executor.load(given, { threads })
    return new Runner({ file, session, plan, feeds, memory, loadMs: performance.now() - start })
  }

  /** The first runs settle memory; the last says how many go into a block. */
  async warmUp(): Promise<void> {
    let last = 0
    const start = performance.now()
    for (let i = 0; i < 3 || (i < 20 && performance.now() - start < 200); i++) last = await this.#run(1)
    this.#runs = Math.max(1, Math.ceil(BLOCK_MS / Math.max(last, 0.001)))
  }

  async block(): Promise<void> {
    this.#times.push((await this.#run(this.#runs)) / this.#runs)
  }

  async #run(times: number): Promise<number> {
    const { session, feeds } = this.#loaded
    const start = performance.now()
    for (let i = 0; i < times; i++) await session.run(feeds)
    return performance.now() - start
  }

  measured(first: Runner): Measured {
    const latency = estimate(this.#times)
    const { file, loadMs, memory, plan } = this.#loaded
    const { batch } = plan
    const perSample = (r: Runner): number[] => r.#times.map((t) => t / r.#loaded.plan.batch)
    const own = perSample(this)
    const ratios = perSample(first).map((t, i) => t / own[i]!)
    return {
      ...{ file, batch, loadMs, memory, runs: this.#times.length * this.#runs, latency },
      throughput: (batch * 1000) / latency.median,
      speedup: this === first ? null : estimate(ratios),
    }
  }

  dispose(): Promise<void> {
    return this.#loaded.session.dispose()
  }
}
