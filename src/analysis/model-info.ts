/** What is in a model: `mnc info`. Sizes in elements and bytes, work in multiply-accumulates of one sample. */

import { stat } from 'node:fs/promises'
import { MncError } from '../base/errors.ts'
import { encodeModel } from '../codec/codec.ts'
import { readClassOrder } from '../graph/class-names.ts'
import type { Graph, Node, Value } from '../graph/graph.ts'
import { marks } from '../graph/marks.ts'
import type { Model } from '../graph/model.ts'
import { type Dim, type ElementType, elementCount } from '../graph/types.ts'
import { constantSource } from '../layers/constants.ts'
import { isQuantizer } from '../ops/facts.ts'
import { findOp, weightSlots } from '../ops/index.ts'
import { type HistoryEntry, readHistory } from '../pass-manager/history.ts'
import { type EffectiveLayer, effectiveLayers } from './layers.ts'
import { typedSamples } from './one-sample.ts'
import { type Reading, readersOf } from './readers.ts'

export interface PortInfo {
  readonly name: string
  readonly type: ElementType | null
  readonly dims: readonly Dim[] | null
}

/** A layer as `mnc info` lists it. */
export interface LayerInfo {
  readonly name: string
  readonly op: string
  /** Of the weight. */
  readonly shape: readonly number[]
  /** Elements of the weight. */
  readonly weights: number
  /** Fraction of them that is zero in the layer's computation: masked, or rounded to zero. */
  readonly sparsity: number
  /** Bits of the file that hold a weight; where the file keeps latent weights, the width that they are rounded to. */
  readonly weightBits: number
  /** Width that the values need: 4-bit integers in an 8-bit container have 8 weightBits and 4 valueBits. */
  readonly valueBits: number
  readonly activationBits: number
  /** Dense multiply-accumulates of one sample; null where shapes are unknown. */
  readonly macs: number | null
  /**
   * Of the tensors in the file that the weight is made from: latent values, mask, scales, or a packed form. One that
   * several layers share (a packed file's) is divided by the number of their weights.
   */
  readonly bytes: number
  /** Whether training leaves the weight as it is. */
  readonly frozen: boolean
}

/** Totals of what `mnc.frozen` marks. */
export interface FrozenInfo {
  readonly nodes: number
  readonly tensors: number
  /** Elements of those tensors. */
  readonly elements: number
}

/** What `mnc info` says of a model. */
export interface ModelInfo {
  readonly irVersion: number
  readonly opset: number
  readonly inputs: readonly PortInfo[]
  readonly outputs: readonly PortInfo[]
  readonly nodes: number
  readonly ops: Readonly<Record<string, number>>
  /** Elements that training would change: weights, biases, BN scales and shifts. */
  readonly parameters: number
  readonly macs: number | null
  /** Size of the file, external data included. */
  readonly bytes: number
  readonly layers: readonly LayerInfo[]
  readonly frozen: FrozenInfo
  /** Which versions of onnxruntime load the file. */
  readonly readers: readonly Reading[]
  /** Names of the outputs' classes, if the metadata has them. */
  readonly classes?: readonly string[]
  /** Passes, training stages and exports that made the model, in order. */
  readonly history: readonly HistoryEntry[]
}

export interface ModelInfoOptions {
  /** Size of the file that the model was read from; counted again by default. */
  readonly bytes?: number | undefined
  /** Called with the reason why MACs are missing. */
  readonly warn?: (message: string) => void
}

/** Describes a model without changing it. The batch dimension counts as 1 where it is open. */
export async function modelInfo(model: Model, { bytes, warn = () => {} }: ModelInfoOptions = {}): Promise<ModelInfo> {
  const { model: work, samples } = await typedSamples(model, warn)
  const layers = await effectiveLayers(work, warn)
  const stored = storedBytes(layers)
  const classes = classesOf(model, warn)
  return {
    irVersion: model.irVersion,
    opset: model.opset,
    inputs: model.graph.fed.map(portOf),
    outputs: model.graph.outputs.map(portOf),
    nodes: model.graph.nodeCount,
    ops: countOps(model.graph),
    parameters: countParameters(work.graph, layers),
    macs: perSample(totalMacs(work.graph), samples),
    bytes: bytes ?? encodeModel(model).byteLength,
    layers: layers.map((l) => ({
      name: l.name,
      op: l.node.op,
      shape: l.values.dims,
      weights: l.values.size,
      sparsity: l.values.size > 0 ? l.zeros / l.values.size : 0,
      weightBits: l.weightBits,
      valueBits: l.valueBits,
      activationBits: l.activationBits,
      macs: perSample(macsOf(l.node, l), samples),
      bytes: stored.get(l)!,
      frozen: marks.frozen.is(l.node) || marks.frozen.is(l.layer?.weight ?? l.operand),
    })),
    frozen: frozenParts(model.graph),
    readers: readersOf(model),
    ...(classes && { classes }),
    history: readHistory(model),
  }
}

const perSample = (macs: number | null, samples: number): number | null => macs && macs / samples

function classesOf(model: Model, warn: (message: string) => void): readonly string[] | null {
  try {
    return readClassOrder(model)
  } catch (error) {
    if (!(error instanceof MncError)) throw error
    warn(error.message)
    return null
  }
}

/** See `LayerInfo.bytes`. */
function storedBytes(layers: readonly EffectiveLayer[]): Map<EffectiveLayer, number> {
  const parts = new Map(layers.map((l) => [l, constantSource(l.operand) ?? []]))
  const readers = new Map<Value, number>()
  for (const [l, values] of parts) for (const v of values) readers.set(v, (readers.get(v) ?? 0) + l.values.size)
  const share = (l: EffectiveLayer, v: Value): number => (v.constant!.byteLength * l.values.size) / readers.get(v)!
  return new Map([...parts].map(([l, values]) => [l, Math.round(values.reduce((n, v) => n + share(l, v), 0))]))
}

function frozenParts(graph: Graph): FrozenInfo {
  const tensors = [...graph.stored()].filter(marks.frozen.is)
  return {
    nodes: [...graph.nodes()].filter(marks.frozen.is).length,
    tensors: tensors.length,
    elements: tensors.reduce((n, v) => n + v.stored!.size, 0),
  }
}

/** null where the work of a layer is unknown. */
function totalMacs(graph: Graph): number | null {
  let total = 0
  for (const n of graph.nodes()) {
    const macs = macsOf(n)
    if (macs === null && weightSlots(n).length > 0) return null
    total += macs ?? 0
  }
  return total
}

/** `layer`: of this one of the node's weights alone; all take part equally often. */
function macsOf(node: Node, layer?: EffectiveLayer): number | null {
  const def = findOp(node)
  if (!def) return 0
  try {
    const { macs } = def.cost(node)
    if (!layer?.slot.part) return macs
    const all = weightSlots(node).reduce((n, s) => n + elementCount(node.input(s.input).dims), 0)
    return (macs * layer.values.size) / all
  } catch (error) {
    if (error instanceof MncError) return null // a shape stayed symbolic
    throw error
  }
}

function portOf(v: Value): PortInfo {
  return { name: v.name, type: v.type?.elem ?? null, dims: v.type?.dims ?? null }
}

function countOps(graph: Graph): Record<string, number> {
  const counts = new Map<string, number>()
  for (const n of graph.nodes()) {
    const op = n.domain === '' ? n.op : `${n.domain}::${n.op}`
    counts.set(op, (counts.get(op) ?? 0) + 1)
  }
  return Object.fromEntries([...counts].sort(([a, x], [b, y]) => y - x || (a < b ? -1 : 1)))
}

const floats = new Set<ElementType>(['float32', 'float16', 'float64', 'bfloat16'])

/**
 * Weights of layers (each tensor once), and the other float tensors, except state, parts that a layer's weight is made
 * from (mask, scale, codebook), quantisers' scales, and single numbers that are not parameters by nature.
 */
function countParameters(graph: Graph, layers: readonly EffectiveLayer[]): number {
  const weights = new Map<Value, number>()
  const parts = new Set<Value>()
  for (const l of layers) {
    weights.set(l.layer?.weight ?? l.operand, l.values.size)
    for (const v of constantSource(l.operand) ?? []) parts.add(v)
  }
  let count = 0
  for (const n of weights.values()) count += n
  for (const v of graph.initializers())
    if (!parts.has(v) && floats.has(v.constant!.type) && [...v.uses].some((n) => isParameter(n, v)))
      count += v.constant!.size
  return count
}

function isParameter(node: Node, v: Value): boolean {
  const def = findOp(node)
  const slots = node.inputs.flatMap((x, i) => (x === v ? [i] : []))
  if (slots.some((i) => def?.parameters?.includes(i))) return true
  const quantiser = isQuantizer(node) || marks.role.has(node)
  return v.constant!.size > 1 && !quantiser && !slots.every((i) => def?.state?.includes(i))
}

/** Bytes of the file that `model` was read from, with what its external tensors take; undefined for standard input. */
export async function fileBytes(model: Model, path: string): Promise<number | undefined> {
  if (path === '-') return undefined
  let { size } = await stat(path)
  for (const v of model.graph.stored()) size += v.stored?.origin?.external?.length ?? 0
  return size
}
