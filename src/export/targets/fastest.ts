/**
 * The fastest of some files here: measured side by side, at each number of threads and each batch that was asked for. One that is
 * slower than the float form at any of them, beyond the noise or by 3 %, is not taken; of the others the first that no other beats, by the
 * geometric mean over the settings of the throughput against the float form.
 */
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { temporaryFolder } from '../../base/files.ts'
import { writeModel } from '../../codec/codec.ts'
import type { Model } from '../../graph/model.ts'
import { measureLatency } from '../../latency/measure.ts'
import type { Estimate } from '../../latency/statistics.ts'
import { ortExecutor } from '../../runtime/ort/ort.ts'

/** Where a target is measured: every combination. */
export interface Settings {
  /** 0: one a core. */
  readonly threads: readonly number[]
  readonly batch: readonly number[]
}

export interface FastestRun {
  readonly settings: Settings
  readonly seed: number
  readonly signal?: AbortSignal | undefined
}

/** Milliseconds of a run at one setting. */
export interface Timed {
  readonly threads: number
  readonly batch: number
  readonly latency: Estimate
}

/** For each file and setting. */
const SECONDS = 1

/** A median below this share of the float form's speed is slower, however wide the noise. */
const TIE = 0.97

export interface Fastest {
  readonly index: number
  /** By file. */
  readonly timed: readonly (readonly Timed[])[]
}

/** `float`: the file that no other may be slower than. Errors: those of loading and of finding a working batch. */
export async function fastestOf(
  models: readonly Model[],
  float: number,
  { settings, seed, signal }: FastestRun,
): Promise<Fastest> {
  const folder = await temporaryFolder(join(tmpdir(), 'mnc-fastest-'))
  try {
    // the first is what the others are compared with
    const order = [float, ...models.keys()].filter((k, i, all) => all.indexOf(k) === i)
    const candidates = []
    for (const k of order) {
      const file = join(folder.path, `${k}.onnx`)
      await writeModel(models[k]!, file)
      candidates.push({ file, model: models[k]! })
    }
    const measured = await measureLatency(
      candidates,
      { ...settings, seconds: SECONDS },
      { seed, executor: ortExecutor(), ...(signal && { signal }) },
    )
    const placed = [...models.keys()].map((k) => order.indexOf(k))
    return {
      index: fastestIn(placed.map((at) => measured.map((s) => s.models[at]!.speedup))),
      timed: placed.map((at) =>
        measured.map(({ threads, models }) => {
          const { batch, latency } = models[at]!
          return { threads, batch, latency }
        }),
      ),
    }
  } finally {
    await folder.remove()
  }
}

/** `speedups`: of each file, setting by setting, against the float one, which has none. */
export function fastestIn(speedups: readonly (readonly (Estimate | null)[])[]): number {
  const joined = speedups.map((list) => ({
    neverSlower: list.every((s) => s === null || (s.high >= 1 && s.median >= TIE)),
    low: mean(list.map((s) => s?.low ?? 1)),
    high: mean(list.map((s) => s?.high ?? 1)),
  }))
  const open = joined.filter((j) => j.neverSlower)
  const least = Math.max(...open.map((j) => j.low))
  return joined.findIndex((j) => j.neverSlower && j.high >= least)
}

const mean = (ratios: readonly number[]): number =>
  Math.exp(ratios.reduce((sum, r) => sum + Math.log(r), 0) / ratios.length)
