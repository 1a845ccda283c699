/**
 * Which positions of a layer's output moments are taken from, where there are far more than moments need. A layer of n
 * columns has n (n + 1) / 2 second moments; GPTQ (Frantar, Ashkboos, Hoefler, Alistarh, arXiv:2210.17323) takes 64 rows a column
 * (2048 tokens of 128 samples for 4096). A convolution at 32 x 32 positions has 1,024 rows of every picture, for 9 or 144 columns.
 *
 * All samples count: of each, every k-th position along each axis is taken, k odd, so that nothing of period two is missed.
 */
import type { AttributeLike } from '../graph/attribute.ts'
import type { Builder } from '../graph/builder.ts'
import { cloneModel, type ValueMap } from '../graph/clone.ts'
import type { Node, Value } from '../graph/graph.ts'
import type { Model } from '../graph/model.ts'
import { padsInput } from '../graph/sliding-window.ts'
import type { WeightLayer } from '../layers/layers.ts'
import { isMatrixProduct } from '../ops/facts.ts'
import { channelSlot } from '../ops/index.ts'
import { inferTypes } from '../runtime/isolated/infer-types.ts'
import type { CalibrationData } from '../samples/calibration-data.ts'

const ROWS_A_COLUMN = 64
const LEAST_ROWS = 2 ** 13
/** Along each axis. */
const LEAST_POSITIONS = 4

/** By spatial axis of the layer's output, the distance of the positions that are taken; of matrices, that of rows. */
export type Every = readonly number[]

/** Of each layer, by its columns; all positions where it is not known how many there are. */
export async function thinPositions(
  model: Model,
  columns: ReadonlyMap<WeightLayer, number>,
  data: CalibrationData,
): Promise<ReadonlyMap<WeightLayer, Every>> {
  const { samples } = data
  if (samples === undefined || columns.size === 0) return new Map()
  const map: ValueMap = new Map()
  const typed = cloneModel(model, map)
  await inferTypes(typed, { dims: batchOfOne(model) })
  return new Map(
    [...columns].map(([layer, count]) => {
      const shapes = layer.users.map((n) => map.get(n.output)!.type?.dims)
      const spatial = spatialOf(shapes[0] ?? [], layer)
      const isAlike = shapes.every((s) => s?.join() === shapes[0]?.join())
      return [layer, isAlike && spatial ? everyOf(spatial, samples, count) : []]
    }),
  )
}

function batchOfOne({ graph }: Model): Readonly<Record<string, number>> {
  const first = graph.fed.map((v) => v.type?.dims?.[0])
  return Object.fromEntries(first.flatMap((d) => (typeof d === 'string' ? [[d, 1]] : [])))
}

/** Sizes of the axes of one sample's positions; null where one is unknown. */
function spatialOf(dims: readonly (number | string | null)[], { node }: WeightLayer): readonly number[] | null {
  const sizes = dims.flatMap((d) => (typeof d === 'number' ? [d] : []))
  if (sizes.length < dims.length || dims.length < 3) return null
  // rows of matrices are taken from all samples alike
  return isMatrixProduct(node) ? [sizes.slice(1, -1).reduce((a, b) => a * b, 1)] : sizes.slice(2)
}

function everyOf(spatial: readonly number[], samples: number, columns: number): Every {
  const rows = spatial.reduce((a, b) => a * b, samples)
  const share = rows / Math.max(LEAST_ROWS, ROWS_A_COLUMN * columns)
  const odd = (x: number): number => Math.max(1, 2 * Math.floor((x + 1) / 2) - 1)
  return spatial.map((n) => odd(Math.min(share ** (1 / spatial.length), n / LEAST_POSITIONS)))
}

/** Every k-th index along axes from `first` on. */
export function takeEvery(b: Builder, x: Value, every: Every, first: number): Value {
  if (every.every((k) => k === 1)) return x
  const each = (of: (k: number, i: number) => number): Value => b.ints(every.map(of))
  return b.op('Slice', [x, each(() => 0), each(() => 2 ** 31 - 1), each((_, i) => first + i), each((k) => k)])
}

/** A convolution that computes these positions alone; null where it cannot: its pads depend on its strides. */
export function attributesFor(node: Node, every: Every): Readonly<Record<string, AttributeLike>> | null {
  const own = Object.fromEntries(node.attributes)
  if (every.every((k) => k === 1)) return own
  if (channelSlot(node)?.transposed || node.string('auto_pad', 'NOTSET') !== 'NOTSET') return null
  const strides = node.ints(
    'strides',
    every.map(() => 1),
  )
  return { ...own, strides: strides.map((s, i) => s * every[i]!) }
}

/** Whether each output is a sum over the channels at one position, the same one. */
export const isPointwise = (node: Node, positions: number): boolean =>
  positions === 1 &&
  !padsInput(node) &&
  node.ints('strides', []).every((s) => s === 1) &&
  channelSlot(node)?.transposed !== true
