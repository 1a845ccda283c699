/**
 * First and second moments of the inputs of layers over calibration data, as the layer's products see them: a column x of
 * numbers for each position of the output,
 *
 *   mean = E x,   gram = E x x',   and with the inputs r of the same layer in a float network,   cross = E r x'
 *
 * Where a layer has far more positions than moments need, of every sample some are taken (thin-positions.ts). The columns of a convolution are computed by the convolution itself: applied to each input channel separately, with a
 * kernel of one 1 for each of its positions, it gives what it would have multiplied with that position's weight, whatever
 * its strides, pads and dilations are, and so does a ConvTranspose. The engine multiplies them; only the moments come out
 * of a run, and memory does not grow with the data.
 *
 * A last batch that is filled up with copies is left out where there are others.
 */
import { modelError } from '../base/errors.ts'
import type { Builder } from '../graph/builder.ts'
import type { Node, Value } from '../graph/graph.ts'
import type { Model } from '../graph/model.ts'
import { Tensor } from '../graph/tensor.ts'
import { elementTypes } from '../graph/types.ts'
import type { WeightLayer } from '../layers/layers.ts'
import { channelSlot } from '../ops/index.ts'
import type { CalibrationData } from '../samples/calibration-data.ts'
import type { FloatReference } from './bypass-quantisers.ts'
import { LayerWalk, type WalkSite } from './layer-walk.ts'
import { attributesFor, type Every, isPointwise, takeEvery } from './thin-positions.ts'
import type { WeightRows } from './weight-rows.ts'

/** Moments of one group of a layer; n columns. */
export interface Moments {
  /** [n, n] */
  readonly gram: Float64Array
  /** [n] */
  readonly mean: Float64Array
  /** [n, n], and of the float network; null without one. */
  readonly cross: Float64Array | null
  readonly referenceMean: Float64Array | null
}

export interface MomentsOf {
  readonly layer: WeightLayer
  readonly rows: WeightRows
  /** The positions that are taken (thin-positions.ts); all by default. */
  readonly every?: Every | undefined
}

/** A walk that measures moments of these layers' inputs. All must be layers that `weightRows` has rows of. */
export const momentsWalk = (
  model: Model,
  layers: readonly MomentsOf[],
  data: CalibrationData,
  options: { readonly reference: FloatReference | null; readonly allowNonfinite?: boolean | undefined },
): LayerWalk =>
  new LayerWalk(
    model,
    data,
    layers.map((w) => (site) => addProbes(site, [w]).flatMap((p) => p.held)),
    options,
  )

/** Moments by layer, one entry a group, of layers none of which depends on another of them, in graph order. */
export async function inputMoments(
  walk: LayerWalk,
  wanted: readonly MomentsOf[],
): Promise<Map<WeightLayer, readonly Moments[]>> {
  let probes: LayerProbe[] = []
  const sums = new Map(wanted.map((w) => [w.layer, new Sums(w)]))
  let seen = 0
  const add = (site: WalkSite): Value[] => {
    probes = addProbes(site, wanted)
    return probes.flatMap((p) => p.held)
  }
  await walk.step(wanted[0]!.layer.node, add, ({ out, size, count }) => {
    if (count < size && seen > 0) return
    seen += count
    for (const p of probes) sums.get(p.layer)!.add(p, out)
  })
  return new Map([...sums].map(([layer, s]) => [layer, s.moments()]))
}

/** Names of the outputs that hold the sums of one node. */
interface LayerProbe {
  readonly layer: WeightLayer
  readonly held: readonly Value[]
  readonly shape: string
  readonly gram: string
  readonly mean: string
  readonly cross: string | null
  readonly referenceMean: string | null
}

const addProbes = (site: WalkSite, wanted: readonly MomentsOf[]): LayerProbe[] =>
  wanted.flatMap((w) => w.layer.users.map((node) => probeOf(site, w, node)))

function probeOf(
  { graph, here: imageOf, there: floatOf }: WalkSite,
  { layer, rows, every = [] }: MomentsOf,
  node: Node,
): LayerProbe {
  const b = graph.append()
  const data = layer.slot.data!
  const here = columns(b, layer, node, imageOf(node.output).producer!.input(data), { rows, every })
  const turned = b.op('Transpose', [here], { perm: [0, 2, 1] })
  const other = floatOf(node.output)?.producer?.input(data)
  const there = other ? columns(b, layer, node, other, { rows, every }) : null
  const handOut = (v: Value): string => {
    graph.addOutput(v)
    return v.name
  }
  return {
    layer,
    // the columns, the form in which a convolution returns them, and their transpose
    held: [here, here, here, ...(there ? [there, there] : [])],
    shape: handOut(b.op('Shape', [here])),
    gram: handOut(b.op('MatMul', [here, turned])),
    mean: handOut(b.op('GlobalAveragePool', [here])),
    cross: there && handOut(b.op('MatMul', [there, turned])),
    referenceMean: there && handOut(b.op('GlobalAveragePool', [there])),
  }
}

interface Columns {
  readonly rows: WeightRows
  readonly every: Every
}

/** What a node multiplies with its weight: [groups, columns, positions of the output]. */
function columns(b: Builder, { slot, tensor }: WeightLayer, node: Node, data: Value, { rows, every }: Columns): Value {
  const { groups, columns: count, positions } = rows
  const x = b.op('Cast', [data], { to: elementTypes.float32.code })
  if (slot.channels !== 'window') {
    const turned = slot.transposesData?.(node)
      ? takeEvery(b, x, every, 1)
      : b.op('Transpose', [takeEvery(b, b.op('Reshape', [x, b.ints([-1, count])]), every, 0)], { perm: [1, 0] })
    return b.op('Reshape', [turned, b.ints([1, count, -1])])
  }
  const spread = isPointwise(node, positions)
    ? takeEvery(b, x, every, 2)
    : eachPosition(b, node, x, { rows, every }, tensor.dims.slice(2))
  const behind = tensor.dims.slice(2).map((_, i) => i + 2)
  return b.op('Reshape', [b.op('Transpose', [spread], { perm: [1, 0, ...behind] }), b.ints([groups, count, -1])])
}

/** [N, C, ...] to [N, C * positions, ...]: what each position of the kernel is multiplied with, computed by the node itself. */
function eachPosition(b: Builder, node: Node, x: Value, { rows, every }: Columns, kernel: readonly number[]): Value {
  const { positions } = rows
  const channels = (rows.groups * rows.columns) / positions
  const ones = new Float32Array(channels * positions * positions)
  for (let c = 0; c < channels; c++) for (let p = 0; p < positions; p++) ones[(c * positions + p) * positions + p] = 1
  const transposed = channelSlot(node)?.transposed
  const dims = transposed ? [channels, positions, ...kernel] : [channels * positions, 1, ...kernel]
  const weight = b.initializer(`${node.id}.positions`, Tensor.float32(dims, ones))
  const some = attributesFor(node, every)
  const spread = b.op(node.op, [x, weight], { ...(some ?? Object.fromEntries(node.attributes)), group: channels })
  return some ? spread : takeEvery(b, spread, every, 2)
}

/** Sums over all runs, of one layer. */
class Sums {
  readonly #of: MomentsOf
  #count = 0
  readonly #sums = new Map<keyof Moments, Float64Array>()

  constructor(of: MomentsOf) {
    this.#of = of
  }

  add(p: LayerProbe, out: Readonly<Record<string, Tensor>>): void {
    const count = out[p.shape]!.toNumbers()[2]!
    this.#count += count
    const into = (key: keyof Moments, name: string | null, factor: number): void => {
      if (name === null) return
      const values = out[name]!.toFloat32()
      const sum = this.#sums.get(key) ?? new Float64Array(values.length)
      this.#sums.set(key, sum)
      for (let i = 0; i < sum.length; i++) sum[i]! += factor * values[i]!
    }
    into('gram', p.gram, 1)
    into('mean', p.mean, count)
    into('cross', p.cross, 1)
    into('referenceMean', p.referenceMean, count)
  }

  moments(): Moments[] {
    const { layer, rows } = this.#of
    for (const sum of this.#sums.values())
      if (sum.some((x) => !Number.isFinite(x)))
        throw modelError('not-finite', `inputs of '${layer.name}' are not finite on the calibration data`, {
          next: 'check the preprocessing (--mean --std --scale) and the model',
        })
    const part = (key: keyof Moments, g: number): Float64Array | null => {
      const sum = this.#sums.get(key)
      const size = (sum?.length ?? 0) / rows.groups
      return sum?.slice(g * size, (g + 1) * size).map((x) => x / Math.max(1, this.#count)) ?? null
    }
    return Array.from({ length: rows.groups }, (_, g) => ({
      gram: part('gram', g)!,
      mean: part('mean', g)!,
      cross: part('cross', g),
      referenceMean: part('referenceMean', g),
    }))
  }
}
