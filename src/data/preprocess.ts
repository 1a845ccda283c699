/**
 * How pixels become a model's input: (pixel / scale - mean) / std per channel, resized to the input size, laid out as
 * the graph's input says. Part of a model's meaning, so it travels in the model's metadata_props as JSON under
 * `mnc.preprocess`. When a model has none, the data set's own statistics are assumed and the caller is told.
 */

import { MncError, modelError, usageError } from '../base/errors.ts'
import { marks } from '../graph/marks.ts'
import type { Model } from '../graph/model.ts'
import { type Dim, formatType } from '../graph/types.ts'
import { inputDims } from '../samples/input-shapes.ts'
import { ArraySet, type SampleSet } from './array-set.ts'
import { inModelOrder } from './class-order.ts'
import type { Dataset } from './dataset.ts'
import { scaleWarning } from './pixel-scale.ts'
import type { ResizeMode } from './resize.ts'

export type Layout = 'NCHW' | 'NHWC'

/** How pixels become a model's input: (pixel / scale - mean) / std, at a size. */
export interface Preprocess {
  /** What pixels are divided by first. */
  readonly scale: number
  /** One number per channel of the model's input. */
  readonly mean: readonly number[]
  readonly std: readonly number[]
  /** Input size, [height, width]. */
  readonly size: readonly [number, number]
  readonly layout: Layout
  /** How images of another size are brought to `size`; bilinear where absent. */
  readonly resize?: ResizeMode
  /** A grey image is repeated into every channel. Without it, a grey set and a colour model do not go together. */
  readonly replicateGrey?: boolean
}

/** The values of --mean, --std, --scale, --input-size and similar options; a single mean or std counts for every channel. */
export interface PreprocessOverrides {
  readonly mean?: readonly number[] | undefined
  readonly std?: readonly number[] | undefined
  readonly scale?: number | undefined
  /** [side] or [height, width]. */
  readonly inputSize?: readonly number[] | undefined
  readonly resize?: ResizeMode | undefined
  readonly replicateGrey?: boolean | undefined
}

/** The record in the model's metadata; null where there is none. A malformed one is the model's fault. */
export function readPreprocess(model: Model): Preprocess | null {
  const text = marks.preprocess.text(model)
  if (text === undefined) return null
  const record = marks.preprocess.get(model)
  if (isPreprocess(record)) return record
  throw modelError('bad-preprocess', `the metadata entry ${marks.preprocess.key} is malformed: ${text.slice(0, 200)}`)
}

function isPreprocess(r: unknown): r is Preprocess {
  if (typeof r !== 'object' || r === null) return false
  const { scale, mean, std, size, layout, resize, replicateGrey } = r as Record<string, unknown>
  const numbers = (x: unknown): x is number[] => Array.isArray(x) && x.length > 0 && x.every(Number.isFinite)
  return (
    typeof scale === 'number' &&
    scale > 0 &&
    numbers(mean) &&
    numbers(std) &&
    mean.length === std.length &&
    std.every((s) => s > 0) &&
    numbers(size) &&
    size.length === 2 &&
    size.every((s) => Number.isInteger(s) && s > 0) &&
    (layout === 'NCHW' || layout === 'NHWC') &&
    (resize === undefined || resize === 'bilinear' || resize === 'nearest') &&
    (replicateGrey === undefined || typeof replicateGrey === 'boolean')
  )
}

/** Records it in the model's metadata, keys in a fixed order. */
export function writePreprocess(model: Model, p: Preprocess): void {
  const { scale, mean, std, size, layout, resize, replicateGrey } = p
  marks.preprocess.set(model, {
    ...{ scale, mean, std, size, layout },
    ...(resize && resize !== 'bilinear' && { resize }),
    ...(replicateGrey && { replicateGrey }),
  })
}

export interface ImageInput {
  readonly name: string
  readonly layout: Layout
  /** null where the graph leaves a dimension open. */
  readonly channels: number | null
  readonly height: number | null
  readonly width: number | null
}

/** The model's one image input: rank 4, not an initializer. NHWC where only the last dimension can be channels. */
export function imageInput(model: Model): ImageInput {
  const inputs = model.graph.fed
  const [input] = inputs.filter((v) => v.type?.dims?.length === 4)
  if (!input || inputs.length > 1)
    throw modelError(
      'no-image-input',
      `the model must have one input, of rank 4 (N,C,H,W or N,H,W,C); it has ${
        inputs.map((v) => `'${v.name}' ${formatType(v.type)}`).join(', ') || 'none'
      }`,
    )
  const dims = inputDims(model)[input.name] ?? []
  const known = dims.map((d: Dim) => (typeof d === 'number' && d > 0 ? d : null))
  const [, a = null, b = null, c = null] = known
  const isChannels = (d: number | null) => d === 1 || d === 3
  const layout: Layout = isChannels(c) && !isChannels(a) && a !== null ? 'NHWC' : 'NCHW'
  const [channels, height, width] = layout === 'NCHW' ? [a, b, c] : [c, a, b]
  return { name: input.name, layout, channels, height, width }
}

/** The preprocessing of mnc's own models: each set's own statistics, the model's input size (the images' where open). */
export async function defaultPreprocess(
  dataset: Dataset,
  model: Model,
  { inputSize, resize }: PreprocessOverrides = {},
): Promise<Preprocess> {
  const { size, layout } = placeOf(dataset, model, inputSize)
  const { mean, std } = await dataset.sized(size, resize).statistics()
  return { scale: 255, mean, std, size, layout }
}

function placeOf(
  dataset: Dataset,
  model: Model,
  inputSize: readonly number[] | undefined,
): Pick<Preprocess, 'size' | 'layout'> {
  const { height, width, layout } = imageInput(model)
  return { size: inputSize ? sizeOf(inputSize) : [height ?? dataset.height, width ?? dataset.width], layout }
}

/**
 * The preprocessing to use: what the options say, else what the model's metadata says, else the data set's own statistics
 * (then `warn` is called with a sentence for the user). Checked against the model's input and the data set's pixels;
 * throws an MncError on wrong input size, channel mismatch, bad numbers.
 */
export async function preprocessOf(
  model: Model,
  dataset: Dataset,
  overrides: PreprocessOverrides = {},
  warn: (message: string) => void = () => {},
): Promise<Preprocess> {
  const recorded = readPreprocess(model)
  const base = recorded ?? (await basePreprocess(dataset, model, overrides))
  if (!recorded && !(overrides.mean && overrides.std))
    warn(
      `the model does not specify its preprocessing; assuming the statistics of ${dataset.name}: mean ${base.mean.join(' ')}, std ${base.std.join(' ')} (override with --mean and --std)`,
    )
  const input = imageInput(model)
  const channels = input.channels ?? base.mean.length
  const spread = (list: readonly number[]) => (list.length === 1 ? new Array<number>(channels).fill(list[0]!) : list)
  const size = overrides.inputSize ? sizeOf(overrides.inputSize) : base.size
  const replicateGrey = overrides.replicateGrey ?? base.replicateGrey
  const resize = overrides.resize ?? base.resize
  const preprocess: Preprocess = {
    scale: overrides.scale ?? base.scale,
    mean: spread(overrides.mean ?? base.mean),
    std: spread(overrides.std ?? base.std),
    size,
    layout: input.layout,
    ...(resize && { resize }),
    ...(replicateGrey && { replicateGrey }),
  }
  checkInput(preprocess, input, dataset, channels)
  const odd = scaleWarning(preprocess)
  if (odd) warn(odd)
  return preprocess
}

/** Statistics are a pass over the training split: computed only where they are used. */
async function basePreprocess(dataset: Dataset, model: Model, o: PreprocessOverrides): Promise<Preprocess> {
  const { mean, std } = o
  if (!mean || !std) return defaultPreprocess(dataset, model, o)
  return { scale: 255, mean, std, ...placeOf(dataset, model, o.inputSize) }
}

function sizeOf(list: readonly number[]): readonly [number, number] {
  const [h = 0, w = h] = list
  if (list.length > 2 || ![h, w].every((n) => Number.isInteger(n) && n > 0))
    throw usageError(`--input-size takes one side or height and width, not '${list.join(' ')}'`)
  return [h, w]
}

function checkInput(p: Preprocess, input: ImageInput, dataset: Dataset, channels: number): void {
  if (!(Number.isFinite(p.scale) && p.scale > 0)) throw usageError(`--scale must be above 0, not ${p.scale}`)
  for (const [flag, list] of Object.entries({ '--mean': p.mean, '--std': p.std }))
    if (list.length !== channels || !list.every(Number.isFinite))
      throw usageError(`${flag} must be ${channels} number(s), one per channel of the model; got '${list.join(' ')}'`)
  if (p.std.some((s) => s <= 0)) throw usageError(`--std must be above 0; got '${p.std.join(' ')}'`)
  const [height, width] = p.size
  if ((input.height ?? height) !== height || (input.width ?? width) !== width)
    throw new MncError(
      `input '${input.name}' takes images of ${input.height ?? '?'}x${input.width ?? '?'}, not ${height}x${width}`,
      { code: 'input-size', blame: 'user', next: 'leave out --input-size, or set it to the size of the model' },
    )
  if (dataset.channels !== channels && !(dataset.channels === 1 && p.replicateGrey))
    throw new MncError(
      `${dataset.name} has images with ${dataset.channels} channel(s), but input '${input.name}' takes ${channels}`,
      {
        ...{ code: 'channel-mismatch', blame: 'user' },
        next:
          dataset.channels === 1
            ? '--replicate-grey repeats them into every channel, if the model was trained so'
            : 'use a matching model, or convert the pictures to grey',
      },
    )
}

/**
 * For code that reads labels: compares the last dimension of the first output with the number of classes, where the graph
 * states it.
 */
export function checkClasses(model: Model, dataset: SampleSet, scores = model.graph.outputs[0]): void {
  const stated = statedClasses(model, scores)
  const { classes } = inModelOrder(model, dataset)
  if (stated === null || stated === classes) return
  // of classes without names the last ones may have no sample
  if (dataset instanceof ArraySet && !dataset.classNames && classes < stated) return
  throw new MncError(`output '${scores?.name}' has ${stated} classes, but ${dataset.name} has ${classes}`, {
    ...{ code: 'class-mismatch', blame: 'user' },
    next: 'use the data set that the model was made for, or name the classes of all outputs with --classes FILE',
  })
}

/** The last dimension of the output with the scores, the first by default; null where it is open. */
export function statedClasses(model: Model, scores = model.graph.outputs[0]): number | null {
  const last = scores?.type?.dims?.at(-1)
  return typeof last === 'number' ? last : null
}
