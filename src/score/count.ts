/**
 * Walks a graph and counts what each node stores and does, by the rules of the MicroNet Challenge:
 *
 * - a layer with constant weights: v non-zero weights into one output element are v multiplications and v - 1 additions,
 *   + 1 for a bias that is not zero. Padding positions count.
 * - BatchNormalization that folds into the layer before it leaves a bias; any other a scale and a bias per channel.
 * - everything else by its OpDef's cost; adding a constant zero does not count.
 * - QuantizeLinear and DequantizeLinear are format conversions and free, as is a clamp right before or after rounding;
 *   their scales are stored.
 *
 * What an export adds to work around the width of kernels (mnc.role=correction) is not part of the network.
 *
 * A look-up in a table (Gather) stores the table and does nothing; its output has the table's width.
 *
 * Operands: a dot product's multiplications have the widths of weight and activation; comparisons that of their input;
 * all other float work has `floatBits`. Integer arithmetic on shapes is free. An operator without an OpDef is refused.
 */

import { constantFormat } from '../analysis/value-width.ts'
import type { Node, Value } from '../graph/graph.ts'
import { marks } from '../graph/marks.ts'
import type { Tensor } from '../graph/tensor.ts'
import { CORRECTION } from '../layers/layers.ts'
import {
  isChannelNorm,
  isClip,
  isDequantize,
  isInBatchMode,
  isQuantize,
  isQuantizer,
  quantizeBehind,
} from '../ops/facts.ts'
import { findOp, layerSlot, type OpDef, requireOp, type WeightSlot, weightSlots } from '../ops/index.ts'
import { foldedBatchNorm, normBias } from './batch-norm.ts'
import type { Constants } from './constants.ts'
import { notCounted, requireShapes } from './countable.ts'
import { dequantizedFacts, type Facts, quantizedFacts } from './formats.ts'
import type { LayerScore } from './report.ts'
import { adderTree, storedBits, WORD, weightOf } from './rules.ts'
import { isFloat, ValueFacts } from './value-facts.ts'

export interface Count {
  readonly layers: readonly LayerScore[]
  readonly parameters: number
  readonly macs: number
  readonly quantized: boolean
}

const isCorrection = (n: Node): boolean => marks.role.get(n) === CORRECTION

type Mutable<T> = { -readonly [K in keyof T]: T[K] }
interface Row extends Mutable<Omit<LayerScore, 'adds'>> {
  adds: { fp32: number; adderTree: number }
}

/** Counts a model whose types are inferred; see the header. */
export class Counter {
  readonly #constants: Constants
  readonly #floatBits: number
  readonly #facts: ValueFacts
  readonly #stored = new Set<Value>()
  readonly #folded = new Set<Node>()
  readonly #rows: Row[] = []
  #parameters = 0
  #quantized = false

  constructor(constants: Constants, floatBits: number) {
    this.#constants = constants
    this.#floatBits = floatBits
    this.#facts = new ValueFacts(constants, floatBits)
  }

  count(nodes: Iterable<Node>): Count {
    for (const node of nodes) {
      if (node.outputs.every((v) => !v || this.#constants.has(v))) continue
      if (isCorrection(node)) {
        const def = isQuantizer(node) ? null : findOp(node)
        if (def) this.#facts.pass(node, def)
      } else if (!this.#facts.takeShape(node)) this.#node(node)
    }
    const layers = this.#rows.filter((r) => r.macs + r.mults + r.adds.fp32 + r.storage > 0)
    const macs = layers.reduce((sum, r) => sum + r.macs, 0)
    return { layers, macs, parameters: this.#parameters, quantized: this.#quantized }
  }

  #node(node: Node): void {
    const row = this.#row(node)
    if (isQuantize(node)) this.#quantizer(node, row)
    else if (isDequantize(node)) this.#dequantizer(node, row)
    else if (!this.#folded.has(node)) this.#operator(node, row)
  }

  #operator(node: Node, row: Row): void {
    const def = requireOp(node)
    requireShapes(node)
    if (isChannelNorm(node)) this.#batchNorm(node, row)
    else if (layerSlot(node)) this.#dotProducts(node, def, row)
    else this.#other(node, def, row)
    this.#facts.pass(node, def)
  }

  #row(node: Node): Row {
    const row: Row = {
      ...{ name: node.id, op: node.op, macs: 0, weights: 0, nonZeros: 0, weightBits: null, activationBits: null },
      ...{ maskBits: 0, storage: 0, mults: 0, adds: { fp32: 0, adderTree: 0 } },
    }
    this.#rows.push(row)
    return row
  }

  // --- quantisers ----------------------------------------------------------------------------------------------

  #quantizer(node: Node, row: Row): void {
    this.#quantized = true
    this.#requireConstantParameters(node)
    this.#storeFloats(node.input(1), row)
    this.#facts.set(node.output, quantizedFacts(node, this.#facts.of(node.input(0)), this.#constants))
  }

  #dequantizer(node: Node, row: Row): void {
    this.#quantized = true
    this.#requireConstantParameters(node)
    const q = this.#facts.of(node.input(0))
    const scale = this.#constants.tensor(node.input(1))
    if (!q.scale?.equals(scale)) this.#storeFloats(node.input(1), row)
    const facts = dequantizedFacts(node, q, this.#constants)
    row.activationBits = facts.bits
    this.#facts.set(node.output, facts)
  }

  #requireConstantParameters(node: Node): void {
    for (const v of node.inputs.slice(1))
      if (v && !this.#constants.has(v))
        throw notCounted(node, `its ${v === node.inputs[1] ? 'scale' : 'zero point'} is computed in the graph`)
  }

  // --- layers with weights -------------------------------------------------------------------------------------

  #dotProducts(node: Node, def: OpDef, row: Row): void {
    const slot = layerSlot(node)!
    const weight = node.input(slot.input)
    if (slot.lookup) {
      if (this.#constants.has(weight)) this.#storeWeight(node, slot, row)
      return
    }
    const data = slot.data === undefined ? weight : node.input(slot.data)
    const x = this.#facts.of(data)
    const cost = def.cost(node)
    const outputs = node.output.dims.reduce((a, b) => a * b, 1)
    row.macs = cost.macs
    row.activationBits = x.bits
    if (!this.#constants.has(weight)) {
      const w = this.#facts.of(weight)
      row.mults = cost.macs * weightOf(w.bits, x.bits)
      this.#addProducts(row, cost.macs / outputs, outputs, w, x)
    } else {
      const axis = slot.outputAxis(node)
      const tensor = this.#constants.tensor(weight)
      const format = constantFormat(weight, this.#constants, { floatBits: this.#floatBits, axis: axis })
      const perWeight = cost.macs / tensor.size
      row.macs = perWeight * ownWeights(node, tensor)
      const nonZeros = countByChannel(tensor.toNumbers(), tensor.dims, axis)
      const perChannel = outputs / nonZeros.length
      for (const v of nonZeros) {
        row.mults += v * perWeight * weightOf(format.bits, x.bits)
        if (v > 0) this.#addProducts(row, (v * perWeight) / perChannel, perChannel, format, x)
      }
      this.#storeWeight(node, slot, row)
    }
    this.#bias(node, def, row, outputs)
  }

  /** `count` sums of n products each. */
  #addProducts(row: Row, n: number, count: number, w: Width, x: Width): void {
    const adds = Math.max(0, n - 1) * count
    row.adds.fp32 += adds
    row.adds.adderTree +=
      w.integer && x.integer ? adderTree(Math.ceil(n), w.bits, x.bits) * count : adds * weightOf(this.#floatBits)
  }

  #storeWeight(node: Node, slot: WeightSlot, row: Row): void {
    const weight = node.input(slot.input)
    const axes = { output: slot.outputAxis(node), input: slot.inputAxis(node) }
    const tensor = this.#constants.tensor(weight)
    const format = constantFormat(weight, this.#constants, { floatBits: this.#floatBits, axis: axes.output })
    const stored = storedBits(tensor.toNumbers(), tensor.dims, format.bits, axes)
    this.#quantized ||= format.integer
    row.weights += ownWeights(node, tensor)
    row.nonZeros += stored.nonZeros
    row.weightBits = Math.max(row.weightBits ?? 0, format.bits)
    row.maskBits += stored.maskBits
    if (this.#stored.has(weight)) return
    this.#stored.add(weight)
    this.#parameters += ownWeights(node, tensor)
    // a BatchNormalization after it turns one scale for the tensor into one per channel
    const folds = format.integer && foldedBatchNorm(node, this.#constants)
    const scales = folds ? Math.max(format.scales, tensor.dims[axes.output]!) : format.scales
    row.storage += (stored.bits + scales * this.#floatBits) / WORD
  }

  /** The layer's own bias, or the one that is left of a BatchNormalization after it. */
  #bias(node: Node, def: OpDef, row: Row, outputs: number): void {
    const at = (def.parameters ?? []).find((i) => i !== layerSlot(node)?.input && node.inputs[i])
    const own = at === undefined ? null : node.inputs[at]!
    const norm = foldedBatchNorm(node, this.#constants)
    if (norm) {
      this.#folded.add(norm)
      this.#facts.set(norm.output, this.#facts.float)
      this.#parameters += 2 * norm.input(1).dims[0]! + (own ? own.dims.reduce((a, b) => a * b, 1) : 0)
      this.#addConstant(row, normBias(norm, own, this.#constants), outputs)
    } else if (own && !this.#constants.has(own)) this.#add(row, outputs)
    else if (own) {
      this.#addConstant(row, this.#constants.tensor(own).toNumbers(), outputs, own)
      this.#countParameters(own)
    }
  }

  // --- the rest ------------------------------------------------------------------------------------------------

  #batchNorm(node: Node, row: Row): void {
    if (isInBatchMode(node)) throw notCounted(node, 'it normalises with the statistics of the batch')
    for (const v of node.inputs.slice(1))
      if (v && !this.#constants.has(v))
        throw notCounted(node, 'its scale, bias or statistics are computed in the graph')
    const outputs = node.output.dims.reduce((a, b) => a * b, 1)
    const scale = this.#constants.tensor(node.input(1)).toNumbers()
    this.#parameters += 2 * scale.length
    row.mults += outputs * shareOfNonZeros(scale) * weightOf(this.#floatBits)
    row.storage += this.#bitsOf(scale) / WORD
    this.#addConstant(row, normBias(node, null, this.#constants), outputs)
  }

  #other(node: Node, def: OpDef, row: Row): void {
    const slots = weightSlots(node).filter((s) => node.inputs[s.input] && this.#constants.has(node.input(s.input)))
    for (const slot of slots) this.#storeWeight(node, slot, row)
    const constants = node.inputs.flatMap((v, i) =>
      v && this.#constants.has(v) && isFloat(v) && !def.state?.includes(i) && slots.every((s) => s.input !== i)
        ? [v]
        : [],
    )
    for (const v of constants) {
      this.#storeFloats(v, row)
      this.#countParameters(v)
    }
    if (this.#isFreeClamp(node)) return
    const cost = def.cost(node)
    const [constant] = constants
    // a recurrent layer need not give its sequence: it has no first output then
    const outputs = node.outputs[0]?.dims.reduce((a, b) => a * b, 1) ?? 0
    const elementwise = constant && node.inputs.length === 2 && cost.mults + cost.adds === outputs
    const share = elementwise ? shareOfNonZeros(this.#constants.tensor(constant).toNumbers()) : 1
    row.macs = cost.macs
    row.mults +=
      cost.mults * share * weightOf(this.#floatBits) + cost.comparisons * weightOf(this.#facts.inputBits(node))
    this.#add(row, cost.adds * share)
  }

  /** A clamp to constants (Clip, or Max and Min on integers) that belongs to the rounding next to it. */
  #isFreeClamp(node: Node): boolean {
    const [x] = node.inputs
    if (!x || !findOp(node)?.limits) return false
    if (node.inputs.slice(1).some((v) => v && !this.#constants.has(v))) return false
    const behind = quantizeBehind(x) !== null
    const before = [...node.output.uses].every(isQuantize) && node.output.uses.size > 0 && !node.output.isOutput
    return behind || (before && isClip(node))
  }

  // --- helpers -------------------------------------------------------------------------------------------------

  #add(row: Row, count: number): void {
    const adds = count * weightOf(this.#floatBits)
    row.adds.fp32 += adds
    row.adds.adderTree += adds
  }

  /** Adding a constant to `outputs` elements, and storing it; `shared`: where another node may store it too. */
  #addConstant(row: Row, values: ArrayLike<number>, outputs: number, shared?: Value): void {
    this.#add(row, outputs * shareOfNonZeros(values))
    if (shared && this.#stored.has(shared)) return
    if (shared) this.#stored.add(shared)
    row.storage += this.#bitsOf(values) / WORD
  }

  #storeFloats(v: Value, row: Row): void {
    if (this.#stored.has(v)) return
    this.#stored.add(v)
    const tensor = this.#constants.tensor(v)
    const { bits, scales } = constantFormat(v, this.#constants, { floatBits: this.#floatBits, axis: null })
    if (scales === 0 && shareOfNonZeros(tensor.toNumbers()) === 0) return
    row.storage += (tensor.size * bits + scales * this.#floatBits) / WORD
  }

  #countParameters(v: Value): void {
    this.#parameters += this.#constants.tensor(v).size
  }

  /** Storage of biases and scales: dense, nothing where all are zero. */
  #bitsOf(values: ArrayLike<number>): number {
    return shareOfNonZeros(values) === 0 ? 0 : values.length * this.#floatBits
  }
}

type Width = Pick<Facts, 'bits' | 'integer'>

/** Without those of channels that an export added. */
const ownWeights = (node: Node, { size }: Tensor): number => marks.ownWeights.get(node) ?? size

/** Non-zero weights by output channel. */
function countByChannel(values: ArrayLike<number>, dims: readonly number[], axis: number): number[] {
  const channels = dims[axis]!
  const inner = dims.slice(axis + 1).reduce((a, b) => a * b, 1)
  const counts = new Array<number>(channels).fill(0)
  for (let i = 0; i < values.length; i++) if (values[i] !== 0) counts[Math.floor(i / inner) % channels]!++
  return counts
}

function shareOfNonZeros(values: ArrayLike<number>): number {
  let n = 0
  for (let i = 0; i < values.length; i++) if (values[i] !== 0) n++
  return values.length === 0 ? 0 : n / values.length
}
