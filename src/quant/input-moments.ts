/**
 * First and second moments of the inputs of layers over calibration data, as the layer's products see them: a column x of
 * numbers for each position of the output,
 *
 *   mean = E x,   gram = E x x',   and beside the inputs r of the same layer in a float network,   cross = E r x'
 *
 * The columns of a convolution are made by itself: applied to each input channel apart, with a kernel of one 1 for each of its
 * positions, it gives what it would have multiplied with that position's weight, whatever its strides, pads and dilations
 * are, and so does a ConvTranspose. The engine multiplies them; only the moments come out of a run, and memory does not grow
 * with the data.
 *
 * A last batch that is filled up with copies is left out where there are others.
 */
import { modelError } from '../base/errors.ts'
import type { Builder } from '../graph/builder.ts'
import { cloneModel, cloneNode, type ValueMap } from '../graph/clone.ts'
import type { Graph, Node, Value } from '../graph/graph.ts'
import type { Model } from '../graph/model.ts'
import { padsInput } from '../graph/sliding-window.ts'
import { sweepNode } from '../graph/sweep.ts'
import { Tensor } from '../graph/tensor.ts'
import { elementTypes } from '../graph/types.ts'
import type { WeightLayer } from '../layers/layers.ts'
import { channelSlot } from '../ops/index.ts'
import type { LoadOptions } from '../runtime/executor.ts'
import type { CalibrationData } from '../samples/calibration-data.ts'
import type { FloatReference } from './bypass-quantisers.ts'
import { observe } from './observe.ts'
import type { WeightRows } from './weight-rows.ts'

/** As the graph says, not by integer kernels; weights are rounded once, at load. */
const FLOAT_KERNELS: LoadOptions = { config: { 'session.disable_quant_qdq': '1' } }

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
}

/** Moments by layer, one entry a group. All layers must be ones that `weightRows` has rows of. */
export async function inputMoments(
  model: Model,
  wanted: readonly MomentsOf[],
  data: CalibrationData,
  {
    reference,
    allowNonfinite,
  }: { readonly reference: FloatReference | null; readonly allowNonfinite?: boolean | undefined },
): Promise<Map<WeightLayer, Moments[]>> {
  const map: ValueMap = new Map()
  const copy = cloneModel(model, map)
  const { graph } = copy
  for (const v of [...graph.outputs]) graph.removeOutput(v)
  const float = reference && besideIt(graph, reference)
  const probes = wanted.flatMap((w) => w.layer.users.map((node) => probeOf(graph, map, w, node, float)))
  for (const n of graph.nodesReversed()) sweepNode(n)
  const sums = new Map(wanted.map((w) => [w.layer, new Sums(w, reference !== null)]))
  let seen = 0
  const held = probes.flatMap((p) => p.held)
  await observe(copy, data, { held, allowNonfinite, load: FLOAT_KERNELS }, ({ out, size, count }) => {
    if (count < size && seen > 0) return
    seen += count
    for (const p of probes) sums.get(p.layer)!.add(p, out)
  })
  return new Map([...sums].map(([layer, s]) => [layer, s.moments()]))
}

/** Names of the outputs that hold the sums of one node. */
interface Probe {
  readonly layer: WeightLayer
  readonly held: readonly Value[]
  readonly shape: string
  readonly gram: string
  readonly mean: string
  readonly cross: string | null
  readonly referenceMean: string | null
}

function probeOf(
  graph: Graph,
  map: ValueMap,
  { layer, rows }: MomentsOf,
  node: Node,
  float: ((v: Value) => Value | undefined) | null,
): Probe {
  const b = graph.append()
  const data = layer.slot.data!
  const here = columns(b, layer, node, map.get(node.input(data))!, rows)
  const turned = b.op('Transpose', [here], { perm: [0, 2, 1] })
  const other = float?.(node.output)?.producer?.input(data)
  const there = other ? columns(b, layer, node, other, rows) : null
  const handOut = (v: Value): string => {
    graph.addOutput(v)
    return v.name
  }
  return {
    layer,
    // the columns, what a convolution gave them as, and their transpose
    held: [here, here, here, ...(there ? [there, there] : [])],
    shape: handOut(b.op('Shape', [here])),
    gram: handOut(b.op('MatMul', [here, turned])),
    mean: handOut(b.op('GlobalAveragePool', [here])),
    cross: there && handOut(b.op('MatMul', [there, turned])),
    referenceMean: there && handOut(b.op('GlobalAveragePool', [there])),
  }
}

/** Copies the float network into the graph, on the same inputs; gives the image there of a value of the quantised model. */
function besideIt(graph: Graph, { model, values }: FloatReference): (v: Value) => Value | undefined {
  const map: ValueMap = new Map(model.graph.inputs.map((v) => [v, graph.find(v.name)!]))
  for (const v of model.graph.initializers()) map.set(v, graph.addInitializer(v.name, v.constant!))
  for (const n of model.graph.nodes()) cloneNode(n, graph, map, (name) => graph.freshName(`float/${name}`))
  return (v) => map.get(values.get(v) ?? v)
}

/** What a node multiplies with its weight: [groups, columns, positions of the output]. */
function columns(b: Builder, { slot, tensor }: WeightLayer, node: Node, data: Value, rows: WeightRows): Value {
  const { groups, columns: count, positions } = rows
  const x = b.op('Cast', [data], { to: elementTypes.float32.code })
  if (slot.channels !== 'window') {
    const turned = slot.transposesData?.(node)
      ? x
      : b.op('Transpose', [b.op('Reshape', [x, b.ints([-1, count])])], { perm: [1, 0] })
    return b.op('Reshape', [turned, b.ints([1, count, -1])])
  }
  const spread = isPointwise(node, positions) ? x : eachPosition(b, node, x, rows, tensor.dims.slice(2))
  const behind = tensor.dims.slice(2).map((_, i) => i + 2)
  return b.op('Reshape', [b.op('Transpose', [spread], { perm: [1, 0, ...behind] }), b.ints([groups, count, -1])])
}

/** [N, C, ...] to [N, C * positions, ...]: what each position of the kernel meets, by the node itself. */
function eachPosition(b: Builder, node: Node, x: Value, rows: WeightRows, kernel: readonly number[]): Value {
  const { positions } = rows
  const channels = (rows.groups * rows.columns) / positions
  const ones = new Float32Array(channels * positions * positions)
  for (let c = 0; c < channels; c++) for (let p = 0; p < positions; p++) ones[(c * positions + p) * positions + p] = 1
  const transposed = channelSlot(node)?.transposed
  const dims = transposed ? [channels, positions, ...kernel] : [channels * positions, 1, ...kernel]
  const weight = b.initializer(`${node.id}.positions`, Tensor.float32(dims, ones))
  return b.op(node.op, [x, weight], { ...Object.fromEntries(node.attributes), group: channels })
}

/** Whether each output is a sum over the channels at one position, the same one. */
const isPointwise = (node: Node, positions: number): boolean =>
  positions === 1 &&
  !padsInput(node) &&
  node.ints('strides', []).every((s) => s === 1) &&
  channelSlot(node)?.transposed !== true

/** Sums over all runs, of one layer. */
class Sums {
  readonly #rows: WeightRows
  #count = 0
  readonly #name: string
  readonly #gram: Float64Array
  readonly #mean: Float64Array
  readonly #cross: Float64Array | null
  readonly #referenceMean: Float64Array | null

  constructor({ layer, rows }: MomentsOf, hasReference: boolean) {
    const { groups, columns: n } = rows
    this.#rows = rows
    this.#name = layer.name
    this.#gram = new Float64Array(groups * n * n)
    this.#mean = new Float64Array(groups * n)
    this.#cross = hasReference ? new Float64Array(groups * n * n) : null
    this.#referenceMean = hasReference ? new Float64Array(groups * n) : null
  }

  add(p: Probe, out: Readonly<Record<string, Tensor>>): void {
    const count = out[p.shape]!.toNumbers()[2]!
    this.#count += count
    const into = (sum: Float64Array | null, name: string | null, factor: number): void => {
      if (!sum || name === null) return
      const values = out[name]!.toFloat32()
      for (let i = 0; i < sum.length; i++) sum[i]! += factor * values[i]!
    }
    into(this.#gram, p.gram, 1)
    into(this.#mean, p.mean, count)
    into(this.#cross, p.cross, 1)
    into(this.#referenceMean, p.referenceMean, count)
  }

  moments(): Moments[] {
    const { groups, columns: n } = this.#rows
    for (const sum of [this.#gram, this.#cross])
      if (sum?.some((x) => !Number.isFinite(x)))
        throw modelError('not-finite', `inputs of '${this.#name}' are not finite on the calibration data`, {
          next: 'check the preprocessing (--mean --std --scale) and the model',
        })
    const part = (sum: Float64Array, g: number, size: number): Float64Array =>
      sum.slice(g * size, (g + 1) * size).map((x) => x / Math.max(1, this.#count))
    return Array.from({ length: groups }, (_, g) => ({
      gram: part(this.#gram, g, n * n),
      mean: part(this.#mean, g, n),
      cross: this.#cross && part(this.#cross, g, n * n),
      referenceMean: this.#referenceMean && part(this.#referenceMean, g, n),
    }))
  }
}
