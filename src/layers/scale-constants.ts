/** Brings constants next to scaled channels to the same scale: addends, and the limits of a Clip. */

import type { Node, Value } from '../graph/graph.ts'
import { Tensor } from '../graph/tensor.ts'
import { constantOf, elemOf } from '../ops/facts.ts'
import { dropConstant } from './remove-unused.ts'

interface ByChannel {
  /** By channel. */
  readonly k: Float64Array
  /** Axes behind that of the channels. */
  readonly inner: number
}

/** Gives the node a constant of its own, multiplied channel by channel; one number for all channels becomes one per channel. */
export function scaleConstant(node: Node, input: number, { k, inner }: ByChannel): void {
  const old = node.input(input)
  const tensor = constantOf(old)!
  const values = Float64Array.from(tensor.toNumbers())
  if (values.every((x) => x === 0)) return
  const axis = tensor.dims.length - 1 - inner
  const dims = axis < 0 ? [1, ...Array<number>(-axis - 1).fill(1), ...tensor.dims] : [...tensor.dims]
  const at = Math.max(0, axis)
  const behind = dims.slice(at + 1).reduce((a, b) => a * b, 1)
  const before = dims.slice(0, at).reduce((a, b) => a * b, 1)
  const own = dims[at]!
  const scaled = new Float64Array(before * k.length * behind)
  for (let i = 0; i < scaled.length; i++) {
    const c = Math.floor(i / behind) % k.length
    const row = Math.floor(i / (behind * k.length))
    scaled[i] = values[(row * own + (own === 1 ? 0 : c)) * behind + (i % behind)]! * k[c]!
  }
  dims[at] = k.length
  const name = `${node.id}.scaled`
  node.setInput(input, node.graph.addInitializer(name, Tensor.from(tensor.type, dims, scaled)))
  dropConstant(old)
}

/** Max and Min with limits per channel in place of a Clip; Relu for a lower limit of 0. */
export function scaleClip(
  node: Node,
  { least, most, k, inner }: ByChannel & { readonly least: number; readonly most: number },
): void {
  const { graph } = node
  const b = graph.after(node)
  const [limit] = node.inputs.slice(1).filter((v) => v !== null)
  const elem = elemOf(limit ?? node.input(0))
  const limits = (x: number): Value =>
    graph.addInitializer(
      `${node.id}.limits`,
      Tensor.from(
        elem,
        [k.length, ...Array<number>(inner).fill(1)],
        k.map((f) => f * x),
      ),
    )
  const given = node.inputs.slice(1)
  let v = node.input(0)
  if (least === 0) v = b.op('Relu', [v], {}, { name: `${node.id}.floor` })
  else if (Number.isFinite(least)) v = b.op('Max', [v, limits(least)], {}, { name: `${node.id}.floor` })
  if (Number.isFinite(most)) v = b.op('Min', [v, limits(most)], {}, { name: `${node.id}.ceiling` })
  graph.replaceUses(node.output, v)
  graph.remove(node)
  for (const x of given) if (x) dropConstant(x)
}
