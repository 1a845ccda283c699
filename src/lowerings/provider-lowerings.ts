/**
 * Other forms for nodes that a provider refuses, by operator. A lowering replaces the node by others that compute the
 * same and says whether it did. Which nodes are rewritten is for the provider to say (ort-placement.ts), not for this list.
 *
 *   BatchNormalization, training form   mean and variance by ReduceMean, then the affine map
 *   MaxPool with Indices                one Slice per kernel offset; the first that equals the maximum names the index
 *   Split, Concat of many               a tree of small ones
 *   Conv                                channels filled up to a multiple of 4
 *   SpaceToDepth                        Reshape and Transpose
 *   Sum, LogSoftmax, Round              Adds; max, exp, sum, log; an addition that rounds
 */
import type { Node } from '../graph/graph.ts'
import { lowerBatchNorm } from './lower-batch-norm.ts'
import { lowerConv } from './lower-conv.ts'
import { lowerLogSoftmax, lowerRound, lowerSum } from './lower-elementwise.ts'
import { lowerConcat, lowerSplit } from './lower-many.ts'
import { lowerMaxPool } from './lower-max-pool.ts'
import { lowerSpaceToDepth } from './lower-space-to-depth.ts'

export type Lowering = (node: Node) => boolean

export const lowerings: Readonly<Record<string, Lowering>> = {
  BatchNormalization: lowerBatchNorm,
  Conv: lowerConv,
  LogSoftmax: lowerLogSoftmax,
  MaxPool: lowerMaxPool,
  Split: lowerSplit,
  Concat: lowerConcat,
  SpaceToDepth: lowerSpaceToDepth,
  Sum: lowerSum,
  Round: lowerRound,
}
