/** Building blocks of gradient rules: small node sequences with their result types set. */
import type { Builder } from '../../graph/builder.ts'
import type { Node, Value } from '../../graph/graph.ts'
import { Tensor } from '../../graph/tensor.ts'
import { type ElementType, elementTypes } from '../../graph/types.ts'
import { constantOf } from './constant-of.ts'
import { unsupportedNode } from './define-op.ts'
import { elemOf } from './rules.ts'

export const product = (a: readonly number[]): number => a.reduce((p, d) => p * d, 1)

export const sameDims = (a: readonly number[], b: readonly number[]): boolean =>
  a.length === b.length && a.every((d, i) => d === b[i])

export const range = (n: number): number[] => Array.from({ length: n }, (_, i) => i)

/** Input i as numbers; null where it is left out; a model error where it is computed. */
export function constantNumbers(node: Node, i: number, what: string): readonly number[] | null {
  const v = node.inputs[i]
  if (!v) return null
  const tensor = constantOf(v)
  if (!tensor) throw unsupportedNode(node, `no gradient: its ${what} are computed in the graph`, 'run fold-constants')
  return Array.from(tensor.toNumbers())
}

export function reshape(b: Builder, v: Value, dims: readonly number[]): Value {
  return b.op('Reshape', [v, b.ints(dims)], {}, { type: { elem: elemOf(v), dims } })
}

export function transpose(b: Builder, v: Value, perm: readonly number[]): Value {
  const type = v.type?.dims ? { elem: v.type.elem, dims: perm.map((p) => v.type!.dims![p]!) } : null
  return b.op('Transpose', [v], { perm }, { type })
}

/** `v` broadcast to `dims`. */
export const expand = (b: Builder, v: Value, dims: readonly number[]): Value =>
  b.op('Expand', [v, b.ints(dims)], {}, { type: { elem: elemOf(v), dims } })

/** Zeros of `dims`: made when the graph runs, so that large ones take no room in the file. */
export const zeros = (b: Builder, dims: readonly number[], elem: ElementType): Value =>
  b.op('ConstantOfShape', [b.ints(dims)], { value: Tensor.from(elem, [1], [0]) }, { type: { elem, dims } })

/** Sum over `axes`, `dims` being the dims of `v`. */
export function sumAxes(
  b: Builder,
  v: Value,
  dims: readonly number[],
  axes: readonly number[],
  keepdims: boolean,
): Value {
  if (axes.length === 0) return v
  const out = keepdims ? dims.map((d, i) => (axes.includes(i) ? 1 : d)) : dims.filter((_, i) => !axes.includes(i))
  const type = { elem: elemOf(v), dims: out }
  return b.op('ReduceSum', [v, b.ints(axes)], { keepdims: keepdims ? 1 : 0 }, { type })
}

/** Sums `v` of dims `from` over the axes along which `to` had been broadcast to it (numpy rules). */
export function sumBack(b: Builder, v: Value, from: readonly number[], to: readonly number[]): Value {
  if (sameDims(from, to)) return v
  const lead = from.length - to.length
  const axes = range(from.length).filter((i) => i < lead || (to[i - lead] === 1 && from[i] !== 1))
  const sum = sumAxes(b, v, from, axes, true)
  return lead === 0 ? sum : reshape(b, sum, to)
}

/** Sets the type of a gradient whose dims are known, and returns it. */
export function typed(v: Value, dims: readonly number[], elem: ElementType): Value {
  v.setType({ elem, dims })
  return v
}

/**
 * The same integers, computed when the graph runs: with a zero that comes from the data, so that the engine does not make
 * large constants of all that follows at load, and hold them all.
 */
export function notFolded(b: Builder, v: Value, data: Value, dims: readonly number[]): Value {
  const axes = range(dims.length)
  const one = b.op('Slice', [data, b.ints(axes.map(() => 0)), b.ints(axes.map(() => 1)), b.ints(axes)])
  const truth = b.op(
    'Cast',
    [
      reshape(
        b,
        typed(
          one,
          axes.map(() => 1),
          elemOf(data),
        ),
        [1],
      ),
    ],
    { to: elementTypes.bool.code },
  )
  const int = b.op('Cast', [truth], { to: elementTypes.int32.code })
  return b.op('Add', [v, b.op('Mul', [int, b.scalar(0, 'int32')])], {}, { type: { elem: 'int32', dims: v.dims } })
}
