/**
 * How a changed model is measured against the model as it was:
 *
 *   accuracy  top-1 on labelled images
 *   loss      mean cross entropy on them, nats
 *   sqnr      10 log10( sum y^2 / sum (y - y')^2 ) of the first output, dB; needs no labels. At most 200, for equal outputs
 */

import type { CheckBatch } from '../check/check.ts'
import { randomBatches } from '../check/check.ts'
import { checkBatches } from '../check/check-data.ts'
import type { SampleSet } from '../data/array-set.ts'
import type { Preprocess } from '../data/preprocess.ts'
import { samplePlan } from '../data/sample-set.ts'
import { evaluate } from '../evaluate/evaluate.ts'
import type { Model } from '../graph/model.ts'
import type { LoadOptions } from '../runtime/executor.ts'
import { ortExecutor } from '../runtime/ort/ort.ts'
import { batchPlan } from '../samples/batch-plan.ts'
import { runSamples } from '../samples/run-samples.ts'
import type { MetricName } from './sensitivity-options.ts'

/** dB for outputs that do not differ at all. */
const EQUAL_DB = 200

export interface Metric {
  readonly samples: number
  /** Of the model as it was. */
  readonly baseline: number
  measure(changed: Model): Promise<number>
}

export interface MeasuredOn {
  /** null: random inputs, for sqnr only. */
  readonly data: SampleSet | null
  readonly preprocess: Preprocess | undefined
  readonly batch: number
  readonly seed: number
  readonly load: LoadOptions
}

/** Worse by how much; for sqnr the value itself. */
export const changeOf = (metric: MetricName, value: number, baseline: number): number =>
  metric === 'accuracy' ? baseline - value : metric === 'loss' ? value - baseline : value

/** Whether a change is one that the tolerance allows. */
export const tolerable = (metric: MetricName, change: number, tolerance: number): boolean =>
  metric === 'sqnr' ? change >= tolerance : change <= tolerance + 1e-12

export async function metricOf(name: MetricName, model: Model, on: MeasuredOn): Promise<Metric> {
  if (name === 'sqnr') return sqnrMetric(model, on)
  const { batch, load } = on
  const plan = await samplePlan(model, on.data!, on.preprocess, batch)
  const measure = async (m: Model) => evaluate(m, on.data!, on.preprocess, { batch, load, plan })
  const scoreOf = (r: { top1: number; loss: number }): number => (name === 'accuracy' ? r.top1 : r.loss)
  const baseline = scoreOf(await measure(model))
  return { samples: on.data!.size, baseline, measure: async (m) => scoreOf(await measure(m)) }
}

async function sqnrMetric(model: Model, { data, preprocess, batch, seed, load }: MeasuredOn): Promise<Metric> {
  const batches: CheckBatch[] = []
  const plan = data ? await samplePlan(model, data, preprocess, batch) : await batchPlan(model, batch)
  const source = data ? checkBatches(model, data, preprocess, batch) : randomBatches(model, seed)
  for await (const b of source) batches.push(b)
  const run = async (m: Model, each: (samples: readonly ArrayLike<number>[], i: number) => void): Promise<void> => {
    const session = await ortExecutor().load(m, load)
    try {
      const output = session.outputNames[0]!
      for (const [i, { feeds, count }] of batches.entries())
        each((await runSamples(session, plan, feeds, count, [output]))[output]!, i)
    } finally {
      await session.dispose()
    }
  }
  const wanted: (readonly ArrayLike<number>[])[] = []
  await run(model, (samples) => void wanted.push(samples))
  const measure = async (changed: Model): Promise<number> => {
    let signal = 0
    let noise = 0
    await run(changed, (samples, i) => {
      for (const [k, want] of wanted[i]!.entries()) {
        const got = samples[k]!
        for (let j = 0; j < want.length; j++) {
          signal += want[j]! ** 2
          noise += (want[j]! - got[j]!) ** 2
        }
      }
    })
    return noise === 0 ? EQUAL_DB : Math.min(EQUAL_DB, 10 * Math.log10(signal / noise))
  }
  return { samples: batches.reduce((n, b) => n + b.count, 0), baseline: EQUAL_DB, measure }
}
