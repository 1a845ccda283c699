/** The rate of the sound that a model takes, in its metadata: `mnc.sample-rate`, or a key that others write. */
import { marks } from './marks.ts'
import type { Model } from './model.ts'

const FOREIGN_KEYS = ['sample_rate', 'sampling_rate', 'samplerate', 'sampleRate']

/** Samples a second; null where the model does not say. */
export function readSampleRate(model: Model): number | null {
  const texts = FOREIGN_KEYS.map((key) => Number(model.metadata.get(key) || Number.NaN))
  return [marks.sampleRate.get(model), ...texts].find((rate) => rate !== undefined && rate > 0) ?? null
}

export function writeSampleRate(model: Model, rate: number): void {
  marks.sampleRate.set(model, rate)
}
