/**
 * Many tensors in one vector. The step graph takes all parameters as ONE input (and the optimiser state, the running
 * statistics, the masks and scales likewise): the optimiser is then a handful of nodes over one vector instead of a
 * handful per parameter, and a step crosses into the engine with a few tensors instead of hundreds.
 */
import { bugError } from '../../base/errors.ts'
import type { Builder } from '../../graph/builder.ts'
import type { Value } from '../../graph/graph.ts'
import { Tensor } from '../../graph/tensor.ts'
import { elementCount } from '../../graph/types.ts'
import { findOp } from '../../ops/index.ts'

export interface FlatEntry {
  readonly name: string
  readonly dims: readonly number[]
  /** First element, in elements. */
  readonly offset: number
  readonly size: number
}

export class FlatLayout {
  readonly entries: readonly FlatEntry[]
  /** Elements in all. */
  readonly size: number

  constructor(tensors: Iterable<{ readonly name: string; readonly dims: readonly number[] }>) {
    let offset = 0
    this.entries = Array.from(tensors, ({ name, dims }) => {
      const size = elementCount(dims)
      const entry = { name, dims, offset, size }
      offset += size
      return entry
    })
    this.size = offset
  }

  /** One vector of all tensors; `tensorOf` gives each one's elements. */
  pack(tensorOf: (name: string) => ArrayLike<number>): Float32Array {
    const out = new Float32Array(this.size)
    for (const { name, offset, size } of this.entries) {
      const values = tensorOf(name)
      if (values.length !== size) throw bugError(`'${name}' has ${values.length} elements, not ${size}`)
      out.set(values, offset)
    }
    return out
  }

  /** The part of `flat` that holds `entry`: a view, not a copy. */
  slice(flat: Float32Array, entry: FlatEntry): Float32Array {
    return flat.subarray(entry.offset, entry.offset + entry.size)
  }

  /** Nodes that split `flat` again; values in the order of `entries`. */
  unpack(b: Builder, flat: Value): Value[] {
    const sizes = b.ints(this.entries.map((e) => e.size))
    const parts = b.ops('Split', [flat, sizes], this.entries.length, { axis: 0 }, { name: `${flat.name}.part` })
    return this.entries.map(({ name, dims }, i) => {
      const type = { elem: 'float32', dims } as const
      parts[i]!.setType({ elem: 'float32', dims: [elementCount(dims)] })
      if (dims.length === 1) return parts[i]!
      return b.op('Reshape', [parts[i]!, b.ints(dims)], {}, { name: `${name}.now`, type })
    })
  }

  /** Nodes that put values (in the order of `entries`, null: zeros) into one vector. */
  concat(b: Builder, values: readonly (Value | null)[], name: string): Value {
    const flat = this.entries.map(({ dims, size }, i) => {
      const v = values[i]
      if (!v) return b.op('ConstantOfShape', [b.ints([size])])
      if (dims.length === 1) return v
      // one Reshape, not two: onnxruntime merges pairs, and the merged nodes change the order in which it executes
      const source =
        v.producer && findOp(v.producer)?.carries === 'shape' && v.uses.size === 0 ? v.producer.input(0) : v
      return b.op('Reshape', [source, b.ints([-1])])
    })
    return b.op('Concat', flat, { axis: 0 }, { name, type: { elem: 'float32', dims: [this.size] } })
  }

  /** A vector with one number for each tensor, repeated over its elements. */
  perEntry(of: (name: string) => number): Tensor {
    const out = new Float32Array(this.size)
    for (const e of this.entries) out.fill(of(e.name), e.offset, e.offset + e.size)
    return Tensor.float32([this.size], out)
  }
}
