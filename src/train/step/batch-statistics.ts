/**
 * Puts BatchNormalization into training form: normalise by the batch's own mean and variance, and hand those out so
 * that running averages can be kept along with the step. The gradient through the statistics is left to autodiff.
 *
 * A feature map that several layers normalise (every one in a DenseNet) has the same statistics in each of them, and
 * those of a Concat over channels are those of its parts. So statistics are measured once per part and concatenated,
 * which is exact and saves most of the reduction work of a DenseNet, forward and backward. Over tiles of the batch
 * (tile-batch.ts), with means m_t and variances v_t of equally many elements:
 *   mean = average of m_t,  variance = average of v_t + (m_t - mean)^2
 *
 * Over the batches of several processes, with m_r and v_r of each, one exchange of two numbers a channel, in float64 so that
 * the difference keeps what float32 held:
 *   mean = average of m_r,  variance = average of (v_r + m_r^2) - mean^2
 * Its gradient is one exchange of two numbers, too (autodiff).
 *
 * Does not apply to frozen nodes (they keep their running statistics).
 */

import type { Builder } from '../../graph/builder.ts'
import type { Graph, Node, Value } from '../../graph/graph.ts'
import { meanOverRanks } from '../../graph/hints.ts'
import { marks } from '../../graph/marks.ts'
import { Tensor } from '../../graph/tensor.ts'
import { elementTypes } from '../../graph/types.ts'
import { isChannelNorm, isInBatchMode } from '../../ops/facts.ts'
import { findOp } from '../../ops/index.ts'
import type { FlatLayout } from './flat-layout.ts'
import { nameOf } from './step-names.ts'
import type { Tiles } from './tile-batch.ts'

export interface NormLayer {
  readonly node: Node
  /** Elements that one mean is taken over, on all ranks. */
  readonly count: number
  /** The running statistics' initializers, inputs 3 and 4. */
  readonly runningMean: Value
  readonly runningVariance: Value
  /** Computed in the graph from the batch at hand. */
  readonly batchMean: Value
  readonly batchVariance: Value
  /** Fraction of the old running value that an update keeps. */
  readonly momentum: number
}

interface Statistics {
  readonly mean: Value
  readonly variance: Value
}

/** Nodes whose statistics are trained: BatchNormalization outside frozen parts, with constant running statistics. */
export const normNodes = (graph: Graph): Node[] =>
  [...graph.nodes()].filter(
    (n) => isChannelNorm(n) && !marks.frozen.is(n) && n.input(3).constant !== null && n.input(4).constant !== null,
  )

/**
 * Rewrites `nodes` (of tile 0) and their copies; returns what each one normalises by. `ranks`: processes whose batches are
 * one. Needs known shapes.
 */
export function useBatchStatistics(nodes: readonly Node[], tiles: Tiles | null = null, ranks = 1): NormLayer[] {
  const known = new Map<Value, Statistics>()
  return nodes.map((node) => {
    const copies = tiles?.get(node) ?? [node]
    const x = node.input(0)
    const count = (x.dims.reduce((p, d) => p * d, 1) / x.dims[1]!) * copies.length * ranks
    const [runningMean, runningVariance] = [node.input(3), node.input(4)]
    const momentum = node.float('momentum', 0.9)
    const alone = ranks === 1 && copies.length === 1 && isMeasuredAlone(node)
    const { mean, variance } = alone ? inOneKernel(node) : normaliseBy(copies, statisticsOf(copies, known, ranks))
    return { node, count, runningMean, runningVariance, batchMean: mean, batchVariance: variance, momentum }
  })
}

/**
 * Gives every BatchNormalization running statistics of its own: files merge equal initializers, even with a scale or a
 * bias (all zeros and ones in a new network), and modules are used twice; but each layer's statistics move on their own.
 */
export function separateStatistics(graph: Graph): void {
  for (const node of graph.nodes()) {
    if (!isChannelNorm(node)) continue
    for (const i of [3, 4]) {
      const v = node.inputs[i]
      if (!v?.constant) continue
      const alone = [...v.uses].every((n) => n === node) && node.inputs.filter((x) => x === v).length === 1
      if (!alone || v.isOutput) node.setInput(i, graph.addInitializer(v.name, v.constant)) // the last reader keeps it
    }
  }
}

/** Whether no other layer normalises what the node does, or a part of it. */
export function isMeasuredAlone(node: Node): boolean {
  const x = node.input(0)
  return leavesOf(x).length === 1 && normReaders(x) === 1
}

/** How many layers normalise `x`, directly or as a part of a Concat. */
function normReaders(x: Value): number {
  let count = 0
  for (const n of x.uses) {
    if (isChannelNorm(n) && n.inputs[0] === x) count++
    else if (isChannelConcat(n)) count += normReaders(n.output)
  }
  return count
}

const isChannelConcat = (n: Node): boolean => findOp(n)?.channels?.(n) === 'joined'

/** The parts of a value made by Concat over channels, in order; the value itself where it is not. */
function leavesOf(x: Value): Value[] {
  const n = x.producer
  return n && isChannelConcat(n) ? n.inputs.flatMap((v) => (v ? leavesOf(v) : [])) : [x]
}

/** Training form with momentum 0: the node's own outputs are the batch statistics. */
export function inOneKernel(node: Node): Statistics {
  const channels = node.input(3).constant!.size
  node.setAttribute('training_mode', 1)
  node.setAttribute('momentum', { kind: 'float', value: 0 })
  node.setInput(3, ownBuffer(node.graph, channels))
  node.setInput(4, ownBuffer(node.graph, channels))
  const type = { elem: 'float32', dims: [channels] } as const
  const mean = node.addOutput(node.graph.freshName(`${node.id}.batch_mean`))
  const variance = node.addOutput(node.graph.freshName(`${node.id}.batch_variance`))
  mean.setType(type)
  variance.setType(type)
  return { mean, variance }
}

/**
 * The running statistics that a training kernel reads, times momentum 0, and whose memory onnxruntime (1.30, CPU) makes
 * the output's: an initializer that two such nodes share is overwritten by the second while the first one's batch
 * statistics are still to be read. So each gets its own, of its own value, or equal constants would be merged: also with
 * the zeros and ones that other nodes read, which would then become means and variances.
 */
function ownBuffer(graph: Graph, channels: number): Value {
  const name = graph.freshName('statistics_buffer')
  const number = (Number(name.split('_').at(-1)) || 0) + 0.5
  return graph.addInitializer(name, Tensor.float32([channels], Array<number>(channels).fill(number)))
}

function normaliseBy(copies: readonly Node[], s: Statistics): Statistics {
  for (const node of copies) {
    node.setAttribute('training_mode', null)
    node.setInput(3, s.mean)
    node.setInput(4, s.variance)
  }
  return s
}

/**
 * Convolutions that only one BatchNormalization reads get the running mean subtracted, as a bias, which costs nothing:
 * normalising takes any constant out again, and the statistics can then be taken in one pass without cancellation.
 * Returns the names of the running means that are subtracted from what their batch means are measured on. `running` is
 * the flat vector in `layout`'s order.
 */
export function centreConvolutions(
  norms: readonly NormLayer[],
  layout: FlatLayout,
  running: Value,
  tiles: Tiles | null,
): Set<string> {
  const parts = new Map<string, Value>()
  const centred = new Set<string>()
  for (const { node, runningMean } of norms) {
    if (norms.filter((n) => n.runningMean === runningMean).length > 1) continue
    const inputs = (tiles?.get(node) ?? [node]).map((n) => n.input(0))
    if (!inputs.every(isCentrable)) continue
    if (parts.size === 0) {
      const b = node.graph.prepend()
      const values = layout.unpack(b, b.op('Neg', [running], {}, { name: 'minus_statistics', type: running.type }))
      for (const [i, { name }] of layout.entries.entries()) parts.set(name, values[i]!)
    }
    for (const x of inputs) {
      x.producer!.setInput(2, parts.get(nameOf(runningMean))!)
      for (const n of x.uses) marks.centred.put(n)
    }
    centred.add(nameOf(runningMean))
  }
  return centred
}

/** Made by a convolution without bias whose weights are trained, measured, and normalised by one layer at most. */
function isCentrable(x: Value): boolean {
  if (x.isOutput) return false
  const conv = x.producer
  const readers = [...x.uses]
  const norms = readers.filter(isChannelNorm)
  const applied = norms.filter((n) => n.output.isUsed)
  if (norms.length < readers.length || !norms.some(isInBatchMode) || applied.length > 1) return false
  return conv?.is('Conv') === true && !conv.inputs[2] && !conv.input(1).constant
}

/** Statistics of the inputs of a node's copies, part by part. */
function statisticsOf(copies: readonly Node[], known: Map<Value, Statistics>, ranks: number): Statistics {
  const xs = copies.map((n) => n.input(0))
  const parts = xs.map(leavesOf)
  const b = copies[0]!.graph.before(copies[0]!) // may need sorting afterwards (Graph.sort)
  const each = parts[0]!.map((leaf, i) => {
    const before = known.get(leaf)
    if (before) return before
    const tiles = parts.map((p) => measured(b, p[i]!))
    const own = combined(b, tiles)
    const s = ranks > 1 ? overRanks(b, own) : own
    known.set(leaf, s)
    return s
  })
  if (each.length === 1) return each[0]!
  const join = (values: Value[]): Value => b.op('Concat', values, { axis: 0 })
  return { mean: join(each.map((e) => e.mean)), variance: join(each.map((e) => e.variance)) }
}

/** Mean and population variance of each channel by onnxruntime's two-pass training kernel (exact, no cancellation). */
function measured(b: Builder, x: Value): Statistics {
  const size = x.dims[1]!
  const vector = (name: string, value: number): Value =>
    b.shared(`${name}_${size}`, Tensor.float32([size], Array(size).fill(value)))
  const inputs = [x, vector('ones', 1), vector('zeros', 0), ownBuffer(b.graph, size), ownBuffer(b.graph, size)]
  const attributes = { training_mode: 1, momentum: { kind: 'float', value: 0 } as const }
  const [y, mean, variance] = b.ops('BatchNormalization', inputs, 3, attributes)
  const type = { elem: 'float32', dims: [size] } as const
  y!.setType(x.type)
  mean!.setType(type)
  variance!.setType(type)
  return { mean: mean!, variance: variance! }
}

/** Statistics of a batch from those of its tiles. */
function combined(b: Builder, tiles: readonly Statistics[]): Statistics {
  const [only] = tiles as readonly [Statistics]
  if (tiles.length === 1) return only
  const channels = only.mean.dims[0]!
  const stacked = (values: Value[]): Value =>
    b.op('Reshape', [b.op('Concat', values, { axis: 0 }), b.ints([tiles.length, channels])])
  const average = (v: Value): Value =>
    b.op('ReduceMean', [v, b.ints([0])], { keepdims: 0 }, { type: { elem: 'float32', dims: [channels] } })
  const means = stacked(tiles.map((t) => t.mean))
  const mean = average(means)
  const off = b.op('Sub', [means, mean])
  const spread = b.op('Add', [stacked(tiles.map((t) => t.variance)), b.op('Mul', [off, off])])
  return { mean, variance: average(spread) }
}

/** Statistics of the batches of all processes from those of this one's. */
function overRanks(b: Builder, own: Statistics): Statistics {
  const inType = (v: Value, elem: 'float32' | 'float64'): Value => b.op('Cast', [v], { to: elementTypes[elem].code })
  const [m, v] = [inType(own.mean, 'float64'), inType(own.variance, 'float64')]
  const mean = meanOverRanks(b, m)
  const square = meanOverRanks(b, b.op('Add', [v, b.op('Mul', [m, m])]))
  const spread = b.op('Sub', [square, b.op('Mul', [mean, mean])])
  // rounding may make it less than nothing
  return { mean: inType(mean, 'float32'), variance: b.op('Relu', [inType(spread, 'float32')]) }
}
