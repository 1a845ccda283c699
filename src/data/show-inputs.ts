/**
 * What a model gets, as pictures: the numbers of its image input after all preprocessing, in its own size and layout. Of pictures 0
 * is grey, 128, and one deviation is 42 steps, so that what is normalised as it should be looks like a picture, and all else
 * too dark, too light or flat. Arrays go from their smallest number, black, to their largest.
 */
import { mkdir } from 'node:fs/promises'
import { join } from 'node:path'
import { usageError } from '../base/errors.ts'
import { writeFileAtomic, writing } from '../base/files.ts'
import { encodePng } from '../base/png.ts'
import type { Model } from '../graph/model.ts'
import type { Tensor } from '../graph/tensor.ts'
import type { SampleSet } from './array-set.ts'
import { inModelOrder } from './class-order.ts'
import type { Layout, Preprocess } from './preprocess.ts'
import { sampleBatches } from './sample-set.ts'

export interface ShownInput {
  readonly file: string
  /** Of the sample; null where there is none. */
  readonly label: string | null
  /** Of its numbers. */
  readonly low: number
  readonly high: number
  readonly mean: number
}

/** Writes the first `count` samples into `folder`, a PNG each. A usage error for a model without an input of pictures. */
export async function showInputs(
  model: Model,
  set: SampleSet,
  preprocess: Preprocess | undefined,
  count: number,
  folder: string,
): Promise<ShownInput[]> {
  const own = inModelOrder(model, set).take(count)
  await writing(folder, () => mkdir(folder, { recursive: true }))
  const shown: ShownInput[] = []
  for await (const { feeds, labels, count: n } of sampleBatches(model, own, preprocess, own.size)) {
    const picture = Object.entries(feeds).find(([, t]) => planesOf(t, preprocess?.layout) !== null)
    if (!picture) throw usageError(`no input of ${set.name} is a picture: [N, 1 or 3, height, width], or channels last`)
    for (let i = 0; i < n; i++) {
      const label = labels ? (own.classNames?.[labels[i]!] ?? String(labels[i])) : null
      shown.push(await show(picture[1], i, { folder, label, index: shown.length, preprocess }))
    }
  }
  return shown
}

interface Place {
  readonly folder: string
  readonly label: string | null
  readonly index: number
  readonly preprocess: Preprocess | undefined
}

async function show(t: Tensor, i: number, { folder, label, index, preprocess }: Place): Promise<ShownInput> {
  const { channels, height, width, last } = planesOf(t, preprocess?.layout)!
  const size = channels * height * width
  const all = t.toNumbers()
  const values = Float64Array.from({ length: size }, (_, k) => all[i * size + k]!)
  const low = values.reduce((a, b) => Math.min(a, b))
  const high = values.reduce((a, b) => Math.max(a, b))
  const [zero, step] = preprocess ? [128, 42] : [(-low * 255) / (high - low || 1), 255 / (high - low || 1)]
  const pixels = new Uint8Array(size)
  for (let p = 0; p < height * width; p++)
    for (let c = 0; c < channels; c++) {
      const v = values[last ? p * channels + c : c * height * width + p]!
      pixels[p * channels + c] = Math.max(0, Math.min(255, Math.round(zero + step * v)))
    }
  const name = [String(index).padStart(4, '0'), ...(label === null ? [] : [label.replace(/[^\p{L}\p{N}_-]+/gu, '_')])]
  const file = join(folder, `${name.join('.')}.png`)
  await writeFileAtomic(file, encodePng(width, height, channels, pixels))
  return { file, label, low, high, mean: values.reduce((a, b) => a + b) / size }
}

/** null for what is no picture. */
function planesOf({ dims }: Tensor, layout: Layout | undefined) {
  const [, a = 0, b = 0, c = 0] = dims
  if (dims.length !== 4) return null
  if (layout !== 'NHWC' && (a === 1 || a === 3)) return { channels: a, height: b, width: c, last: false }
  if (layout !== 'NCHW' && (c === 1 || c === 3)) return { channels: c, height: a, width: b, last: true }
  return null
}
