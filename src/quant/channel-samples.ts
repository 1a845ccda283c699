/**
 * What a value contains on calibration data, channel by channel: the largest magnitude of each over all data, and a sample of
 * rows (all channels at one position), drawn so that all rows of the data are equally likely (reservoir sampling). Memory
 * does not grow with the data.
 */
import { Rng } from '../base/rng.ts'
import { cloneModel, type ValueMap } from '../graph/clone.ts'
import type { Value } from '../graph/graph.ts'
import type { Model } from '../graph/model.ts'
import type { Tensor } from '../graph/tensor.ts'
import type { CalibrationData } from '../samples/calibration-data.ts'
import { observe } from './observe.ts'

/** Of one value. */
const ROWS = 256

export interface ChannelSample {
  readonly largest: Float64Array
  /** [rows, channels] */
  readonly rows: Float32Array
}

export interface SampledValue {
  readonly value: Value
  readonly channels: number
  /** Axis of the channels from the front, or the last one. */
  readonly axis: 1 | 'last'
}

export async function channelSamples(
  model: Model,
  wanted: readonly SampledValue[],
  data: CalibrationData,
  { allowNonfinite, seed }: { readonly allowNonfinite?: boolean | undefined; readonly seed: number },
): Promise<Map<Value, ChannelSample>> {
  const map: ValueMap = new Map()
  const copy = cloneModel(model, map)
  for (const v of [...copy.graph.outputs]) copy.graph.removeOutput(v)
  const held = wanted.map((w) => map.get(w.value)!)
  for (const v of held) if (!v.isInput && !v.isOutput) copy.graph.addOutput(v)
  const reservoirs = new Map(wanted.map((w, i) => [w.value, new Reservoir(w, seed + i)]))
  await observe(copy, data, { held: [held], allowNonfinite }, ({ feeds, out, size, count }) => {
    for (const [v, reservoir] of reservoirs) {
      const t = out[map.get(v)!.name] ?? feeds[v.name]!
      reservoir.add(t, count / size)
    }
  })
  return new Map([...reservoirs].map(([v, r]) => [v, r.sample()]))
}

class Reservoir {
  readonly #of: SampledValue
  readonly #rng: Rng
  readonly #largest: Float64Array
  readonly #rows: Float32Array
  #seen = 0

  constructor(of: SampledValue, seed: number) {
    this.#of = of
    this.#rng = new Rng(seed)
    this.#largest = new Float64Array(of.channels)
    this.#rows = new Float32Array(ROWS * of.channels)
  }

  /** The first `share` of the samples counts: a last batch can be filled up with copies. */
  add(t: Tensor, share: number): void {
    const { channels, axis } = this.#of
    const values = t.toFloat32()
    const stride = axis === 1 ? t.dims.slice(2).reduce((a, b) => a * b, 1) : 1
    const positions = Math.floor((values.length / channels) * share)
    for (let p = 0; p < positions; p++) {
      const start = Math.floor(p / stride) * stride * channels + (p % stride)
      const at = this.#seen < ROWS ? this.#seen : this.#rng.integer(this.#seen + 1)
      this.#seen++
      for (let c = 0; c < channels; c++) {
        const x = values[start + c * stride]!
        const size = Math.abs(x)
        if (size > this.#largest[c]! && size < Number.POSITIVE_INFINITY) this.#largest[c] = size
        if (at < ROWS) this.#rows[at * channels + c] = x
      }
    }
  }

  sample(): ChannelSample {
    const rows = this.#rows.slice(0, Math.min(ROWS, this.#seen) * this.#of.channels)
    return { largest: this.#largest, rows }
  }
}
