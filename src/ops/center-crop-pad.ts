/** CenterCropPad, differentiated as a Slice and a Pad. The odd element that is cropped or padded is the one at the end. */
import type { Node } from '../graph/graph.ts'
import { constantOf } from './support/constant-of.ts'
import { defineOp, noCost, unsupportedNode } from './support/define-op.ts'
import { range } from './support/emit.ts'
import { substitute } from './support/rewrite.ts'
import { axisFromFront } from './support/rules.ts'

function decompose(node: Node): void {
  const b = node.graph.before(node)
  const x = node.input(0)
  const rank = x.dims.length
  const shape = constantOf(node.inputs[1])?.toNumbers()
  if (!shape) throw unsupportedNode(node, 'no gradient: its shape is computed', 'run fold-constants')
  const axes = node.ints('axes', range(rank)).map((a) => axisFromFront(a, rank))
  const target = x.dims.map((d, i) => (axes.includes(i) ? shape[axes.indexOf(i)]! : d))
  const starts = x.dims.map((d, i) => Math.max(0, Math.floor((d - target[i]!) / 2)))
  const kept = x.dims.map((d, i) => Math.min(d, target[i]!))
  const ends = starts.map((s, i) => s + kept[i]!)
  const cut = b.op('Slice', [x, b.ints(starts), b.ints(ends), b.ints(range(rank))])
  const before = kept.map((d, i) => Math.floor((target[i]! - d) / 2))
  const after = kept.map((d, i) => target[i]! - d - before[i]!)
  substitute(node, [b.op('Pad', [cut, b.ints([...before, ...after])])])
}

const ints = (values: readonly number[]) => ({ dims: [values.length], type: 'int64' as const, values })

export const centerCropPad = defineOp({
  op: 'CenterCropPad',
  since: [18],
  gradient: 'decompose',
  decompose,
  cost: () => noCost,
  samples: [
    { name: 'crop one axis, pad the other', inputs: [{ dims: [6, 3] }, ints([3, 6])] },
    { name: 'given axes', inputs: [{ dims: [2, 5, 4] }, ints([2])], attributes: { axes: [-2] } },
  ],
})
