/**
 * Every operator that mnc knows, in an explicit list. An operator that is not here passes through every pass unharmed;
 * anything that must understand it (gradient, cost, pruning) refuses it by name.
 */
import { modelError } from '../base/errors.ts'
import { argExtremes } from './arg-extreme.ts'
import { arithmetic } from './arithmetic.ts'
import { attention } from './attention.ts'
import { averagePool, globalAveragePool } from './average-pool.ts'
import { axisNormalizations } from './axis-normalization.ts'
import { batchNormalization } from './batch-normalization.ts'
import { centerCropPad } from './center-crop-pad.ts'
import { col2Im } from './col2im.ts'
import { compress } from './compress.ts'
import { concat, split } from './concat.ts'
import { controlFlow } from './control-flow.ts'
import { conv } from './conv.ts'
import { convTranspose } from './conv-transpose.ts'
import { cumSum } from './cumsum.ts'
import { depthToSpace, spaceToDepth } from './depth-to-space.ts'
import { dropout } from './dropout.ts'
import { einsum } from './einsum.ts'
import { expandOp, tile } from './expand.ts'
import { fourier } from './fourier.ts'
import { gather, gatherElements, gatherND } from './gather.ts'
import { gemm } from './gemm.ts'
import { affineGrid, gridSample } from './grid-sample.ts'
import { groupNormalization, instanceNormalization, layerNormalization } from './layer-normalization.ts'
import { logic } from './logic.ts'
import { losses } from './loss.ts'
import { globalLpPool, lpPool } from './lp-pool.ts'
import { lrn } from './lrn.ts'
import { matmul } from './matmul.ts'
import { globalMaxPool, maxPool } from './max-pool.ts'
import { maxUnpool } from './max-unpool.ts'
import { pad } from './pad.ts'
import { passThrough } from './pass-through.ts'
import { piecewiseActivations } from './piecewise-activations.ts'
import { powers } from './powers.ts'
import { quantizers } from './quantize-linear.ts'
import { quickGelu } from './quick-gelu.ts'
import { recurrents } from './recurrent.ts'
import { reductions } from './reduce.ts'
import { flatten, reshapeOp, squeeze, transposeOp, unsqueeze } from './reshape.ts'
import { resize, upsample } from './resize.ts'
import { reverseSequence } from './reverse-sequence.ts'
import { sampling } from './sampling.ts'
import { scatter, scatterElements, scatterND } from './scatter.ts'
import { selections } from './select.ts'
import { slice } from './slice.ts'
import { smoothActivations } from './smooth-activations.ts'
import { softmaxes } from './softmax.ts'
import { sources } from './sources.ts'
import { reasonFor } from './support/carried.ts'
import type { OpDef, WeightSlot } from './support/define-op.ts'
import { tensorScatter } from './tensor-scatter.ts'
import { topK } from './top-k.ts'
import { trigonometric } from './trigonometric.ts'
import { trilu } from './trilu.ts'

export {
  type ChannelAffine,
  type GradientRule,
  type OpDef,
  unsupportedNode,
  type WeightSlot,
} from './support/define-op.ts'

/** What is known about each operator. */
export const ops: readonly OpDef[] = [
  conv,
  batchNormalization,
  ...arithmetic,
  ...powers,
  ...trigonometric,
  ...logic,
  ...selections,
  ...piecewiseActivations,
  ...smoothActivations,
  quickGelu,
  ...softmaxes,
  ...reductions,
  ...argExtremes,
  ...axisNormalizations,
  cumSum,
  trilu,
  ...passThrough,
  dropout,
  ...sources,
  ...quantizers,
  gemm,
  matmul,
  ...[concat, split, slice, pad, reshapeOp, flatten, squeeze, unsqueeze, transposeOp, expandOp, tile],
  ...[maxPool, globalMaxPool, averagePool, globalAveragePool, lpPool, globalLpPool],
  ...[resize, upsample],
  ...[convTranspose, einsum, topK, lrn],
  ...[instanceNormalization, layerNormalization, groupNormalization],
  ...[gather, gatherElements, gatherND, scatter, scatterElements, scatterND],
  ...[depthToSpace, spaceToDepth],
  ...sampling,
  ...recurrents,
  ...attention,
  ...fourier,
  ...losses,
  ...[affineGrid, gridSample, centerCropPad, col2Im, compress, maxUnpool, reverseSequence, tensorScatter],
  ...controlFlow,
]

const keyOf = (op: string, domain: string): string => `${domain === 'ai.onnx' ? '' : domain}::${op}`

const byKey: ReadonlyMap<string, OpDef> = new Map(ops.map((def) => [keyOf(def.op, def.domain ?? ''), def]))

/** The definition of a node's operator; undefined for one that mnc does not know. */
export function findOp(node: { readonly op: string; readonly domain: string }): OpDef | undefined {
  return byKey.get(keyOf(node.op, node.domain))
}

/** The operators that hold weights. */
export const weightOps: readonly string[] = ops.filter((def) => def.weights).map((def) => def.op)

/** Where the weights of a node sit; none for most. */
export const weightSlots = (node: { readonly op: string; readonly domain: string }): readonly WeightSlot[] =>
  findOp(node)?.weights ?? []

/** The slot of an operator that is one layer: a product with its weight, or rows of it. Not for those with several. */
export const layerSlot = (node: { readonly op: string; readonly domain: string }): WeightSlot | undefined =>
  weightSlots(node).find((s) => s.part === undefined)

/** The slot whose output channels are axis 1 of the output, of whose input channels they are sums. */
export const channelSlot = (node: { readonly op: string; readonly domain: string }): WeightSlot | undefined =>
  weightSlots(node).find((s) => s.channels)

/** The definition of a node's operator; a model error that names domain, op and node where there is none. */
export function requireOp(node: { readonly op: string; readonly domain: string; readonly id: string }): OpDef {
  const def = findOp(node)
  if (def) return def
  const why = reasonFor(node)
  if (why)
    throw modelError('unsupported-node', `operator '${node.op}' of domain '${node.domain || 'ai.onnx'}': ${why}`, {
      node: node.id,
      next: 'freeze what comes before it, or replace it',
    })
  throw modelError('unknown-op', `operator '${node.op}' of domain '${node.domain || 'ai.onnx'}' is unknown to mnc`, {
    node: node.id,
    next: 'freeze or remove that part of the model, or leave it out of what this command must understand',
  })
}
