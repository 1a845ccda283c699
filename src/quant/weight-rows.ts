/**
 * A layer's weight as one matrix per group: a row for each output channel, a column for each number that the channel is a
 * sum over, input channel by input channel and, of a convolution, position by position within each.
 *
 *   Conv            [M, C / G, kernel]    row m of group g is a run
 *   ConvTranspose   [C, M / G, kernel]
 *   Gemm, MatMul    [C, M] or [M, C]      one group
 *
 * Does not apply to weights that change their shape or order on the way to a convolution, nor to batches of matrices.
 */

import type { WeightLayer } from '../layers/layers.ts'
import { channelSlot, findOp } from '../ops/index.ts'

export interface WeightRows {
  readonly groups: number
  /** Of one group. */
  readonly rows: number
  /** Of one row: input channels of the group times positions. */
  readonly columns: number
  /** Elements of the kernel; 1 for matrices. */
  readonly positions: number
  /** Index into the weight of the first column of a row; columns go on by the two strides. */
  start(group: number, row: number): number
  readonly inputStride: number
  readonly positionStride: number
  /** Index along the axis of output channels of the weight. */
  channel(group: number, row: number): number
}

/** The rows, or a string that says why there are none. */
export function weightRows(layer: WeightLayer): WeightRows | string {
  const { node, tensor, outputAxis, inputAxis } = layer
  const slot = channelSlot(node)
  if (!slot || layer.slot !== slot) return `${node.op} is not just a product with its weight`
  const { dims } = tensor
  if (outputAxis === null || inputAxis === null) return 'a Reshape of its weight hides its channels'
  if (slot.channels !== 'window') {
    if (dims.length !== 2) return `its weight has ${dims.length} axes`
    const [rows, columns] = [dims[outputAxis]!, dims[inputAxis]!]
    const [rowStride, inputStride] = outputAxis === 0 ? [columns, 1] : [1, rows]
    return {
      ...{ groups: 1, rows, columns, positions: 1, inputStride, positionStride: 1 },
      start: (_, row) => row * rowStride,
      channel: (_, row) => row,
    }
  }
  if (movesElements(layer)) return 'its weight changes its shape or order on the way to it'
  const groups = node.int('group', 1)
  const positions = dims.slice(2).reduce((a, b) => a * b, 1)
  if (slot.transposed) {
    const [inputs, rows] = [dims[0]! / groups, dims[1]!]
    return {
      ...{ groups, rows, columns: inputs * positions, positions, inputStride: rows * positions, positionStride: 1 },
      start: (group, row) => (group * inputs * rows + row) * positions,
      channel: (_, row) => row,
    }
  }
  const [rows, columns] = [dims[0]! / groups, dims[1]! * positions]
  return {
    ...{ groups, rows, columns, positions, inputStride: positions, positionStride: 1 },
    start: (group, row) => (group * rows + row) * columns,
    channel: (group, row) => group * rows + row,
  }
}

/** Whether something between the constant and the layer changes the shape or order of its elements. */
function movesElements({ node, slot, weight }: WeightLayer): boolean {
  for (let v = node.input(slot.input); v !== weight; v = v.producer.input(0)) {
    if (!v.producer) return false
    const carries = findOp(v.producer)?.carries
    if (carries === 'shape' || carries === 'order') return true
  }
  return false
}

/** The numbers of one group as [rows, columns]. */
export function gatherRows(rows: WeightRows, group: number, values: ArrayLike<number>): Float64Array {
  const out = new Float64Array(rows.rows * rows.columns)
  eachElement(rows, group, (at, index) => {
    out[at] = values[index]!
  })
  return out
}

/** Calls `f` for each element of a group: its place among the rows, and its index into the weight. */
export function eachElement(rows: WeightRows, group: number, f: (at: number, index: number) => void): void {
  const { columns, positions, inputStride, positionStride } = rows
  let at = 0
  for (let row = 0; row < rows.rows; row++) {
    const start = rows.start(group, row)
    for (let c = 0; c < columns / positions; c++)
      for (let p = 0; p < positions; p++) f(at++, start + c * inputStride + p * positionStride)
  }
}
