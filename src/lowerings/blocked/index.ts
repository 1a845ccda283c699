/**
 * A rewrite for onnxruntime's CPU provider: a training step's convolutions go to the engine's blocked (NCHWc) kernels, and
 * what lies between them stays in that layout as far as it can. A graph rewritten like this exists in memory only: no file that
 * mnc writes holds these operators.
 *
 * One form per operator; each says whether it applies. A new one is a function here.
 */

import type { Node, Value } from '../../graph/graph.ts'
import type { Model } from '../../graph/model.ts'
import { isChannelNorm } from '../../ops/facts.ts'
import { STEP_DOMAIN } from '../native/operators.ts'
import { blockBatchNorm } from './batch-norm.ts'
import { blockConv, isBlockable } from './conv.ts'
import { blockDepthwiseGradient, blockDepthwiseTranspose } from './depthwise-gradient.ts'
import { blockElementwise, blockMask, elementwiseOps } from './elementwise.ts'
import { BlockedLayout, DOMAIN } from './layout.ts'
import { blockNative, blockNativeWeightGradient, type ConvGradient, convGradients, featureMapsOf } from './native.ts'
import { blockGlobalAveragePool, blockReduceSum } from './reduce.ts'
import { blockConvTranspose, blockSpaceToDepth } from './strides.ts'
import { blockWeightGradient } from './weight-gradient.ts'

type Form = (node: Node, layout: BlockedLayout) => boolean

const forms: Readonly<Record<string, Form>> = {
  ...Object.fromEntries(elementwiseOps.map((op) => [op, blockElementwise])),
  BatchNormalization: blockBatchNorm,
  Cast: blockMask,
  Conv: blockConv,
  ConvTranspose: (node, layout) => blockDepthwiseTranspose(node, layout) || blockConvTranspose(node, layout),
  GlobalAveragePool: blockGlobalAveragePool,
  ReduceSum: blockReduceSum,
  SpaceToDepth: blockSpaceToDepth,
}

/** Of the last node of a weight gradient, by its mark. */
const gradientForm: Form = (node, layout) => blockDepthwiseGradient(node, layout) || blockWeightGradient(node, layout)

function blockNode(node: Node, layout: BlockedLayout, native: ReadonlyMap<Node, ConvGradient>): boolean {
  if (node.domain === STEP_DOMAIN) return blockNative(node, layout)
  if (node.domain !== '') return false
  const gradient = native.get(node)
  if (gradient && blockNativeWeightGradient(node, gradient, layout)) return true
  const form = layout.weightGradient(node) ? gradientForm : forms[node.op]
  return form?.(node, layout) ?? false
}

/**
 * Rewrites in place; `block` is the engine's channel block, `native`: the session has native kernels. Returns how many nodes
 * have a blocked form now.
 */
export function useBlockedLayout(
  model: Model,
  block: number,
  nodes: Iterable<Node> = model.graph.nodes(),
  native = false,
): number {
  const gradients = native ? convGradients(model.graph) : new Map<Node, ConvGradient>()
  const layout = new BlockedLayout(model.graph, block, wantedBlocked(model.graph.nodesReversed()))
  let changed = 0
  for (const node of nodes) {
    if (blockNode(node, layout, gradients)) changed++
  }
  if (changed > 0) model.opsets.set(DOMAIN, 1)
  if (native && [...model.graph.nodes()].some((n) => n.domain === STEP_DOMAIN)) model.opsets.set(STEP_DOMAIN, 1)
  for (const n of model.graph.nodesReversed()) if (!n.outputs.some((v) => v?.isUsed)) model.graph.remove(n)
  return changed
}

/** Values that a convolution reads in the end, through operators that have a blocked form. */
function wantedBlocked(reversed: Iterable<Node>): Set<Value> {
  const wanted = new Set<Value>()
  for (const n of reversed) {
    if (isBlockable(n)) wanted.add(n.input(0))
    else if (n.outputs[0] && wanted.has(n.outputs[0])) {
      const read = isChannelNorm(n) || n.is(...elementwiseOps) ? n.inputs : featureMapsOf(n)
      for (const v of read) if (v) wanted.add(v)
    }
  }
  return wanted
}
