/**
 * The layers of a model: nodes whose op has a weight operand (`OpDef.weights`) that comes from a constant. Seen through
 * on the way from the operand back to the constant: prune masks (`mnc.role=prune-mask`), QuantizeLinear ->
 * DequantizeLinear pairs (ours or foreign), a DequantizeLinear alone (an integer weight), operators that carry elements
 * (`OpDef.carries`: Cast, Transpose, Reshape, ...), and Constant nodes.
 *
 * Does not apply to weights that are computed from an input, nor inside bodies of If, Loop and Scan.
 */

import { bugError } from '../base/errors.ts'
import type { Graph, Node, Value } from '../graph/graph.ts'
import { marks } from '../graph/marks.ts'
import type { Tensor } from '../graph/tensor.ts'
import { isStatic } from '../graph/types.ts'
import { carriesElements, castType, dequantizeBehind, isCast, isConstantNode, isDequantize } from '../ops/facts.ts'
import { findOp, type WeightSlot, weightSlots } from '../ops/index.ts'
import { QUANT_GUARD, type QuantPair, quantPairOf } from './quant-pair.ts'

export const PRUNE_MASK = 'prune-mask'
export const WEIGHT_QUANT = 'weight-quant'
export const ACTIVATION_QUANT = 'activation-quant'
/** Work that only compensates for the width of an engine's kernels (src/export/weights/split-sums.ts); not a layer of the network. */
export const CORRECTION = 'correction'

/** A node with a weight: what passes prune and quantise. */
export interface WeightLayer {
  /** The first node, in graph order, that uses the weight. */
  readonly node: Node
  /** All nodes that read the constant as their weight (shared weights appear once). */
  readonly users: readonly Node[]
  /** Where the weight sits in `node`. */
  readonly slot: WeightSlot
  /** The node's name, or its output's where it has none; with the part where it has several weights: `lstm.R`. */
  readonly name: string
  /** All names that the layer answers to: node, part, outputs, weight. */
  readonly names: readonly string[]
  /** The latent weights: an initializer, or the output of a Constant node. */
  readonly weight: Value
  readonly tensor: Tensor
  /** Axes of `weight` (not of the operand); null where a Reshape on the way loses them. */
  readonly outputAxis: number | null
  readonly inputAxis: number | null
  readonly maskNode: Node | null
  readonly mask: Value | null
  /** Quantisation of the weight, innermost. */
  readonly quant: QuantPair | null
  /** Where a mask belongs: the weight as a float32 value (after a Cast of 16-bit floats), before any quantiser. */
  readonly maskPoint: Value
  /** Where a quantiser belongs: after the mask. */
  readonly quantPoint: Value
  /** Quantisation of the data input, where it is quantised. */
  readonly activationQuant: QuantPair | null
  /** Reads the constant although it is not a layer's weight (tied embeddings): such weights are not edited. */
  readonly otherUser: Node | null
  /** The weight, or a value on its way, where the model hands it out: such weights are not edited either. */
  readonly handedOut: Value | null
}

interface Chain {
  readonly weight: Value
  readonly tensor: Tensor
  /** From the operand back to the weight. */
  readonly steps: readonly Node[]
  readonly maskNode: Node | null
  readonly quant: QuantPair | null
}

/** What a weight may pass on the way to its layer, besides masks and quantisers. */
const isPassed = (n: Node): boolean => carriesElements(n) || marks.role.get(n) === QUANT_GUARD

/** Layers in graph order. Axes are right for opsets where Squeeze and Unsqueeze keep the element order (all). */
export function weightLayers(graph: Graph): WeightLayer[] {
  const byWeight = new Map<Value, { node: Node; slot: WeightSlot; chain: Chain; users: Set<Node> }>()
  for (const node of graph.nodes())
    for (const slot of weightSlots(node)) {
      const operand = node.inputs[slot.input]
      const chain = operand && walk(operand)
      if (!chain) continue
      const known = byWeight.get(chain.weight)
      if (known) known.users.add(node)
      else byWeight.set(chain.weight, { node, slot, chain, users: new Set([node]) })
    }
  return [...byWeight.values()].map(({ node, slot, chain, users }) => layerOf(node, slot, chain, [...users]))
}

/** Layers by the nodes that use their weights, without those of operators that have several: one product each. */
export const layersByNode = (graph: Graph): Map<Node, WeightLayer> =>
  new Map(weightLayers(graph).flatMap((l) => (l.slot.part ? [] : l.users.map((n) => [n, l] as const))))

function walk(operand: Value): Chain | null {
  const steps: Node[] = []
  let maskNode: Node | null = null
  let quant: QuantPair | null = null
  for (let v = operand; ; ) {
    if (v.constant) return { weight: v, tensor: v.constant, steps, maskNode, quant }
    const node = v.producer
    if (node?.domain !== '') return null
    const tensor = isConstantNode(node) ? node.tensor('value') : null
    if (tensor) return { weight: v, tensor, steps, maskNode, quant }
    if (isDequantize(node)) {
      quant = quantPairOf(node)
      if (!quant) return null
      steps.push(...quant.nodes)
      v = quant.source
    } else if (marks.role.get(node) === PRUNE_MASK) {
      maskNode = node
      steps.push(node)
      v = node.input(0)
    } else if (isPassed(node)) {
      steps.push(node)
      v = node.input(0)
    } else return null
  }
}

/**
 * A layer whose weight comes from constants by a way that `weightLayers` does not see through, and the operator that is
 * in the way (say, a custom quantiser).
 */
export function hiddenWeight(graph: Graph): { readonly layer: Node; readonly by: Node } | null {
  for (const layer of graph.nodes())
    for (const slot of weightSlots(layer)) {
      const operand = layer.inputs[slot.input]
      if (!operand?.producer || walk(operand) || !fromConstants(operand)) continue
      let by: Node = operand.producer
      while (carriesElements(by) && by.input(0).producer) by = by.input(0).producer!
      return { layer, by }
    }
  return null
}

function fromConstants(v: Value): boolean {
  if (v.constant) return true
  return v.producer?.inputs.every((x) => !x || fromConstants(x)) ?? false
}

function layerOf(node: Node, slot: WeightSlot, chain: Chain, users: readonly Node[]): WeightLayer {
  const { weight, tensor, steps, maskNode, quant } = chain
  const maskPoint = castPoint(chain)
  const data = slot.data === undefined ? null : (node.inputs[slot.data] ?? null)
  const name = slot.part ? `${node.id}.${slot.part}` : node.id
  const rounded = dequantizeBehind(data)
  const activation = rounded && quantPairOf(rounded)
  const names = [name, node.name, ...node.outputs.map((v) => v?.name ?? ''), weight.name].filter((n) => n !== '')
  return {
    node,
    users,
    slot,
    name,
    names: [...new Set(names)],
    weight,
    tensor,
    outputAxis: axisAtWeight(slot.outputAxis(node), steps, tensor),
    inputAxis: axisAtWeight(slot.inputAxis(node), steps, tensor),
    maskNode,
    mask: maskNode?.inputs[1] ?? null,
    quant,
    maskPoint,
    quantPoint: maskNode?.output ?? maskPoint,
    activationQuant: activation && !activation.source.constant ? activation : null,
    otherUser: otherUser(weight, steps, users),
    handedOut: [weight, ...steps.flatMap((n) => n.outputs)].find((v) => v?.isOutput) ?? null,
  }
}

/** The weight; where it is stored in another float type, the output of the Cast to float32 after it. */
function castPoint({ weight, tensor, steps }: Chain): Value {
  if (tensor.type === 'float32') return weight
  for (const n of [...steps].reverse()) {
    if (castType(n) === 'float32') return n.output
    if (!isCast(n) && findOp(n)?.carries !== 'value') break
  }
  return weight
}

function otherUser(weight: Value, steps: readonly Node[], users: readonly Node[]): Node | null {
  const own = new Set<Node>([...steps, ...users])
  const seen = (v: Value): Node | null => {
    for (const n of v.uses) {
      if (own.has(n)) continue
      // another chain from the same weight to one of its users is not an outside reader
      if (!isPassed(n) || n.graph !== weight.graph) return n
      for (const out of n.outputs) {
        const other = out && seen(out)
        if (other) return other
      }
    }
    return null
  }
  for (const v of [weight, ...steps.flatMap((n) => n.outputs)]) {
    const other = v && seen(v)
    if (other) return other
  }
  return null
}

/**
 * Follows an axis of the operand back to the constant. Transpose permutes it. Reshape and its kin keep it where the
 * element count before it and its size stay (stride and size of the axis are what matters in row-major order).
 */
function axisAtWeight(axis: number, steps: readonly Node[], weight: Tensor): number | null {
  const stages = dimsBefore(steps, weight)
  let at: number | null = axis
  for (const [i, n] of steps.entries()) {
    if (at === null) return null
    const before = stages[i] ?? null
    const { carries, permutes } = findOp(n) ?? {}
    if (carries === 'order') at = permutes!(n, before?.length ?? 0)[at] ?? null
    else if (carries === 'shape') {
      const after = i === 0 ? reshapedDims(n, before) : (stages[i - 1] ?? null)
      at = before && after ? axisBehindReshape(at, after, before) : null
    }
  }
  return at
}

/** For each step, the dims of its input; null from where they are unknown. `steps` go back to the weight. */
function dimsBefore(steps: readonly Node[], weight: Tensor): (readonly number[] | null)[] {
  const out: (readonly number[] | null)[] = []
  let dims: readonly number[] | null = weight.dims
  for (let i = steps.length - 1; i >= 0; i--) {
    const n = steps[i]!
    out[i] = dims
    const { carries, permutes } = findOp(n) ?? {}
    if (carries === 'shape') dims = reshapedDims(n, dims)
    else if (carries === 'order' && dims) {
      const from: readonly number[] = dims
      dims = permutes!(n, from.length).map((p) => from[p] ?? 0)
    }
  }
  return out
}

/** The axis of the same size with as many elements before it, which a Reshape leaves as it is. */
function axisBehindReshape(axis: number, after: readonly number[], before: readonly number[]): number | null {
  const size = after[axis]
  const outer = after.slice(0, axis).reduce((a, b) => a * b, 1)
  let seen = 1
  for (let k = 0; k < before.length; k++) {
    if (seen === outer && before[k] === size) return k
    seen *= before[k]!
  }
  return null
}

function reshapedDims(node: Node, before: readonly number[] | null): readonly number[] | null {
  const declared = node.output.type?.dims ?? null
  if (isStatic(declared)) return declared
  return before && (findOp(node)?.reshapes?.(node, before) ?? null)
}

/** Turns a Constant node's output into an initializer of the same name, so that it can be edited; returns it. */
export function asInitializer(value: Value): Value {
  const node = value.producer
  if (!node) return value
  const tensor = node.tensor('value')!
  const { graph } = node
  const { name } = value
  const made = graph.addInitializer(name, tensor)
  graph.replaceUses(value, made)
  graph.remove(node)
  if (!graph.find(name)) graph.rename(made, name)
  return made
}

/** The first node, in graph order, of the value's own graph that reads it. */
export function firstUse(value: Value): Node {
  for (const n of value.graph.nodes()) if (value.uses.has(n) || n.subgraphs.some((g) => readsFrom(g, value))) return n
  throw bugError(`'${value.name}' has no user`)
}

const readsFrom = (graph: Graph, value: Value): boolean => {
  for (const n of graph.allNodes()) if (value.uses.has(n)) return true
  return false
}

/** The nodes `readers` read `to` where they read `from`. */
export function rewire(readers: Iterable<Node>, from: Value, to: Value): void {
  for (const n of [...readers]) for (let i = 0; i < n.inputs.length; i++) if (n.inputs[i] === from) n.setInput(i, to)
}

/** The weights as the mask leaves them. */
export function maskedWeights({ tensor, mask }: WeightLayer): Float32Array {
  const weights = tensor.toFloat32()
  const kept = mask?.constant?.toFloat32()
  return kept ? weights.map((w, i) => w * kept[i]!) : weights
}
