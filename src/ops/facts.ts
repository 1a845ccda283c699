/**
 * What passes, exports and engines ask of a node; each answer is a fact of its operator's definition (OpDef), so that an
 * operator that has the fact is treated so wherever it is asked for. A node of an unknown operator has none.
 */
import type { Node, Value } from '../graph/graph.ts'
import type { ElementType } from '../graph/types.ts'
import { channelSlot, findOp } from './index.ts'
import { WORKING_OPSET } from './support/define-op.ts'

export { constantNodeTensor, constantOf, isConstantNode } from './support/constant-of.ts'
export { composed, type Ramp, rampAt } from './support/ramp.ts'
export { axisFromFront, elemOf } from './support/rules.ts'
export { oldestForm, sinceVersions } from './support/schema-versions.ts'

// --- quantisers --------------------------------------------------------------------------------------------------

export const isQuantize = (n: Node): boolean => findOp(n)?.quantizer === 'quantize'

export const isDequantize = (n: Node): boolean => findOp(n)?.quantizer === 'dequantize'

export const isQuantizer = (n: Node): boolean => findOp(n)?.quantizer !== undefined

const producerWith = (v: Value | null | undefined, test: (n: Node) => boolean): Node | null =>
  v?.producer && test(v.producer) ? v.producer : null

/** The node that rounds to these integers; null where none does. */
export const quantizeBehind = (v: Value | null | undefined): Node | null => producerWith(v, isQuantize)

/** The node that gives this value for integers; null where none does. */
export const dequantizeBehind = (v: Value | null | undefined): Node | null => producerWith(v, isDequantize)

// --- limits ------------------------------------------------------------------------------------------------------

/** Keeps input 0 between two numbers, inputs 1 and 2. */
export const isClip = (n: Node): boolean => {
  const limits = findOp(n)?.limits
  return limits?.least === 1 && limits.most === 2
}

/** Whether a Clip gives the value. */
export const isClipped = (v: Value): boolean => producerWith(v, isClip) !== null

/** Keeps input 0 at input 1 or above it. */
export const isFloor = (n: Node): boolean => {
  const limits = findOp(n)?.limits
  return limits?.least === 1 && limits.most === undefined
}

/** The largest or the smallest of its inputs, element by element. */
export const isExtremum = (n: Node): boolean => {
  const limits = findOp(n)?.limits
  return limits !== undefined && (limits.least === undefined) !== (limits.most === undefined)
}

export const isRectifier = (n: Node): boolean => findOp(n)?.rectifier === true

/** Whether a rectifier gives the value. */
export const isRectified = (v: Value): boolean => producerWith(v, isRectifier) !== null

/** The nodes that read the value, those after a rectifier in its place. */
export const readersBehindRectifier = (v: Value): Node[] =>
  [...v.uses].flatMap((n) => (isRectifier(n) ? [...n.output.uses] : [n]))

// --- layers ------------------------------------------------------------------------------------------------------

/** The bias of a layer that adds one; null where it has none, or its operator adds none. */
export function biasOf(n: Node): Value | null {
  const at = channelSlot(n)?.bias
  return at === undefined ? null : (n.inputs[at] ?? null)
}

/** Whether the operator adds a bias to its output channels, given or not. */
export const takesBias = (n: Node): boolean => channelSlot(n)?.bias !== undefined

/** For layers whose operator adds a bias; null takes it away. */
export function setBias(n: Node, bias: Value | null): void {
  n.setInput(channelSlot(n)!.bias!, bias)
}

/** Number that the product of a layer is multiplied with. */
export const productFactor = (n: Node): number => factor(n, channelSlot(n)?.factors?.product)

/** Number that the bias of a layer is multiplied with. */
export const biasFactor = (n: Node): number => factor(n, channelSlot(n)?.factors?.bias)

const factor = (n: Node, attribute: string | undefined): number => (attribute ? n.float(attribute, 1) : 1)

/** Adds the layer's bias as it is. */
export function dropBiasFactor(n: Node): void {
  const attribute = channelSlot(n)?.factors?.bias
  if (attribute) n.setAttribute(attribute, null)
}

/** How many parts of its channels a layer treats separately. */
export const groupsOf = (n: Node): number => (channelSlot(n)?.channels === 'window' ? n.int('group', 1) : 1)

/** A product of matrices, without a window that moves. */
export function isMatrixProduct(n: Node): boolean {
  const over = channelSlot(n)?.channels
  return over !== undefined && over !== 'window'
}

export const isAddition = (n: Node): boolean => findOp(n)?.addition === true

/** A normalisation that can use the batch's own statistics, and without them is x * k + c in each channel. */
export const isChannelNorm = (n: Node): boolean => findOp(n)?.batchMode !== undefined && findOp(n)?.affine !== undefined

// --- the same elements -------------------------------------------------------------------------------------------

/** Whether a normalisation takes the statistics of the batch, in a model of WORKING_OPSET. */
export const isInBatchMode = (n: Node): boolean => findOp(n)?.batchMode?.isOn(n, WORKING_OPSET) ?? false

/** Gives other types for the same numbers. */
export const isCast = (n: Node): boolean => findOp(n)?.carries === 'type'

export const castType = (n: Node): ElementType | undefined => findOp(n)?.castsTo?.(n)

/** Has the elements of input 0 and no others, each once. */
export const carriesElements = (n: Node): boolean => findOp(n)?.carries !== undefined

/** Whether the output depends on the shape of an input only. */
export const readsShape = (n: Node): boolean => findOp(n)?.ofShape !== undefined
