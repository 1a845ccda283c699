/**
 * Which scale of a quantiser each element of a tensor has, and the dims of its scales:
 *
 *   axis null            []: one scale
 *   axis                 [dims[axis]]: one for each index of the axis
 *   axis, block g        dims with ceil(dims[axis] / g) in place of dims[axis]: one for each run of g indices along the
 *                        axis, of which the last may be shorter (`block_size` of QuantizeLinear, opset 21)
 */
import type { Builder } from '../graph/builder.ts'
import type { Value } from '../graph/graph.ts'
import { elementCount } from '../graph/types.ts'

export interface ScaleLayout {
  readonly axis: number | null
  /** Indices of the axis that share a scale; 0 or absent where each has its own. */
  readonly block?: number
}

const blocksOf = (size: number, block: number): number => Math.ceil(size / block)

export function scaleDims(dims: readonly number[], { axis, block = 0 }: ScaleLayout): number[] {
  if (axis === null) return []
  return block === 0 ? [dims[axis]!] : dims.map((d, i) => (i === axis ? blocksOf(d, block) : d))
}

/** The place among the scales of each element of a tensor of these dims. */
export function scaleIndices(dims: readonly number[], { axis, block = 0 }: ScaleLayout): Int32Array {
  const indices = new Int32Array(elementCount(dims))
  if (axis === null) return indices
  const size = dims[axis]!
  const inner = elementCount(dims.slice(axis + 1))
  let at = 0
  for (let outer = 0; at < indices.length; outer++)
    for (let k = 0; k < size; k++) {
      const first = block === 0 ? k : (outer * blocksOf(size, block) + Math.floor(k / block)) * inner
      for (let i = 0; i < inner; i++) indices[at++] = block === 0 ? first : first + i
    }
  return indices
}

/**
 * Scales in a form that broadcasts over a tensor of these dims (of which only the number counts, unless scales belong to
 * blocks): those of blocks are repeated. The operators have gradients, and every reader folds them.
 */
export function broadcastScales(
  b: Pick<Builder, 'op' | 'ints'>,
  scale: Value,
  dims: readonly number[],
  layout: ScaleLayout,
): Value {
  if (layout.axis === null) return scale
  const { block = 0 } = layout
  const axis = layout.axis < 0 ? layout.axis + dims.length : layout.axis
  const name = { name: `${scale.name}.broadcast` }
  if (block === 0) return b.op('Reshape', [scale, b.ints(dims.map((_, i) => (i === axis ? -1 : 1)))], {}, name)
  const blocks = blocksOf(dims[axis]!, block)
  const [before, after] = [dims.slice(0, axis), dims.slice(axis + 1)]
  const column = b.op('Reshape', [scale, b.ints([...before, blocks, 1, ...after])])
  const repeated = b.op('Expand', [column, b.ints([...before, blocks, block, ...after])])
  const all = b.op('Reshape', [repeated, b.ints([...before, blocks * block, ...after])], {}, name)
  if (blocks * block === dims[axis]) return all
  return b.op('Slice', [all, b.ints([0]), b.ints([dims[axis]!]), b.ints([axis])], {}, name)
}
