/** Tensors as parts of messages between processes (base/frames.ts). */
import { Tensor } from '../../graph/tensor.ts'
import type { ElementType } from '../../graph/types.ts'

export interface TensorHead {
  readonly name: string
  readonly type: ElementType
  readonly dims: readonly number[]
}

/** Tensors by name as heads for a frame's JSON and parts after it. */
export function packTensors(tensors: Readonly<Record<string, Tensor>>): { heads: TensorHead[]; parts: Uint8Array[] } {
  const entries = Object.entries(tensors)
  return {
    heads: entries.map(([name, t]) => ({ name, type: t.type, dims: t.dims })),
    parts: entries.map(([, t]) => t.bytes),
  }
}

export function unpackTensors(heads: readonly TensorHead[], parts: readonly Uint8Array[]): Record<string, Tensor> {
  return Object.fromEntries(heads.map(({ name, type, dims }, i) => [name, new Tensor(type, dims, parts[i]!)]))
}
