/**
 * How the uint8 values of an int8 file are computed: what is before each QuantizeLinear, and which levels the Max after
 * it leaves.
 *
 *   conv        Conv of a quantised input and integer weights
 *   sum         Add of two quantised values of one shape
 *   requantised another quantised value, with another scale
 *   shortcut    a quantised value of which every k-th row and column is taken and to which channels of 0 are added:
 *               shortcuts without weights (He et al. 2015, option A), as Slice and Pad
 *   float       anything else
 *
 * Applies to values of [N, C, H, W] with fixed C, H and W, quantised with one scale, that one quantiser reads.
 */
import type { Graph, Node, Value } from '../../graph/graph.ts'
import { isStatic } from '../../graph/types.ts'
import { dequantizeBehind, isDequantize, isFloor, isQuantize } from '../../ops/facts.ts'

export interface Dims {
  readonly channels: number
  readonly height: number
  readonly width: number
}

export interface Step {
  readonly kind: 'conv' | 'sum' | 'requantised' | 'shortcut' | 'float'
  readonly quantize: Node
  /** What QuantizeLinear reads. */
  readonly source: Value
  /** The uint8 value, after the Max. */
  readonly value: Value
  /** Lowest level that the Max leaves. */
  readonly floor: number
  readonly zero: number
  readonly dims: Dims
  /** The DequantizeLinear nodes that give the operands; none for floats. */
  readonly operands: readonly Node[]
  /** The node that reads them. */
  readonly reader: Node | null
  /** Of a shortcut. */
  readonly taken?: Taken
}

export interface Taken {
  /** Of rows and of columns. */
  readonly strides: readonly [number, number]
  /** Channels of zeros in front of the others. */
  readonly before: number
}

/** By the value that they give, in graph order. `typed`: the same graph with types, small constants folded. */
export function stepsOf(graph: Graph, typed: Graph): Map<Value, Step> {
  const steps = new Map<Value, Step>()
  const reading = { typed, steps }
  for (const quantize of graph.nodes()) {
    if (!isQuantize(quantize)) continue
    const step = stepOf(quantize, reading)
    if (step) steps.set(step.value, step)
  }
  return steps
}

interface Reading {
  readonly typed: Graph
  readonly steps: ReadonlyMap<Value, Step>
}

function stepOf(quantize: Node, reading: Reading): Step | null {
  const source = quantize.input(0)
  const dims = dimsOf(source, reading.typed)
  const zero = levelOf(quantize.inputs[2])
  if (!dims || zero === null || quantize.inputs[1]?.constant?.size !== 1) return null
  const { value, floor } = limited(quantize)
  const common = { quantize, source, value, floor, zero, dims }
  const node = source.producer
  if (node && (quantizedOnce(source) || isDequantize(node))) {
    const known = readBy(quantize, node, reading) ?? shortcut(node, reading)
    if (known) return { ...common, ...known }
  }
  return { ...common, kind: 'float', operands: [], reader: null }
}

type Known = Pick<Step, 'kind' | 'operands' | 'reader' | 'taken'>

function readBy(quantize: Node, node: Node, { typed, steps }: Reading): Known | null {
  if (reads(node, steps)) return { kind: 'requantised', operands: [node], reader: quantize }
  const operand = (i: number): Node | null => {
    const d = node.inputs[i]?.producer
    return d && reads(d, steps) ? d : null
  }
  const a = operand(0)
  if (!a) return null
  if (node.is('Conv')) return dequantizeBehind(node.input(1)) ? { kind: 'conv', operands: [a], reader: node } : null
  const b = operand(1)
  if (!node.is('Add') || !b) return null
  const shape = (v: Value): string | undefined => typed.find(v.name)?.type?.dims?.join()
  return shape(node.input(0)) === shape(node.input(1)) ? { kind: 'sum', operands: [a, b], reader: node } : null
}

/** Slices with a step over rows and columns, and zeros around the channels, back to a DequantizeLinear. */
function shortcut(last: Node, { typed, steps }: Reading): Known | null {
  const strides: [number, number] = [1, 1]
  let before = 0
  const constant = (v: Value | null | undefined): readonly number[] | null => (v ? constantNumbers(v, typed) : null)
  let node: Node | null = last
  let reader = last
  for (; node?.is('Slice', 'Pad'); node = node.input(0).producer) {
    if (node !== last && node.output.uses.size > 1) return null
    reader = node
    if (node.is('Pad')) {
      const pads = constant(node.inputs[1])
      const value = node.inputs[2] ? constant(node.inputs[2]) : [0]
      if (node.string('mode', 'constant') !== 'constant' || node.inputs[3] || value?.[0] !== 0) return null
      if (pads?.length !== 8 || pads.some((p, i) => p < 0 || (p > 0 && i !== 1 && i !== 5))) return null
      before += pads[1]!
      continue
    }
    const [starts, ends, axes, steps] = [1, 2, 3, 4].map((i) => constant(node?.inputs[i]))
    const dims = dimsOf(node.input(0), typed)
    if (!dims || !starts || !ends || !axes || !steps) return null
    for (const [i, axis] of axes.entries()) {
      const at = axis < 0 ? axis + 4 : axis
      const size = at === 2 ? dims.height : dims.width
      if (at < 2 || starts[i] !== 0 || ends[i]! < size || steps[i]! < 1) return null
      strides[at === 2 ? 0 : 1] *= steps[i]!
    }
  }
  if (!node || node === last || !reads(node, steps)) return null
  return { kind: 'shortcut', operands: [node], reader, taken: { strides, before } }
}

/** Whether the node dequantises a known value, with the zero point that it was rounded with. */
function reads(node: Node, steps: ReadonlyMap<Value, Step>): boolean {
  if (!isDequantize(node) || node.inputs[1]?.constant?.size !== 1) return false
  return levelOf(node.inputs[2]) === steps.get(node.input(0))?.zero
}

/** The value after a QuantizeLinear and the Max that alone may read it. */
function limited(quantize: Node): { value: Value; floor: number } {
  const { output } = quantize
  const [max] = output.uses
  const floor = max && isFloor(max) && output.uses.size === 1 && !output.isOutput ? levelOf(max.inputs[1]) : null
  return floor === null ? { value: output, floor: 0 } : { value: max!.output, floor }
}

const quantizedOnce = (v: Value): boolean => v.uses.size === 1 && !v.isOutput

/** The contents of a value where they are known without running the graph. */
export function constantNumbers(v: Value, typed: Graph): readonly number[] | null {
  const tensor = v.constant ?? typed.find(v.name)?.constant
  return tensor ? Array.from(tensor.toNumbers()) : null
}

/** A constant uint8 scalar; null for anything else. */
function levelOf(v: Value | null | undefined): number | null {
  const tensor = v?.constant
  return tensor?.type === 'uint8' && tensor.size === 1 ? tensor.item() : null
}

export function dimsOf(v: Value, typed: Graph): Dims | null {
  const dims = typed.find(v.name)?.type?.dims
  if (dims?.length !== 4) return null
  const inner = dims.slice(1)
  if (!isStatic(inner)) return null
  const [channels, height, width] = inner as [number, number, number]
  return { channels, height, width }
}
