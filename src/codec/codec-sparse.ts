/**
 * SparseTensorProto to a tensor with all its elements, which are computed on demand, so that a sparse weight is like any
 * other to code that computes with it. A tensor that nobody replaced is written as it was read (Tensor.origin.sparse),
 * under the name that its value has by then.
 */
import { modelError } from '../base/errors.ts'
import { requireHoldable, Tensor } from '../graph/tensor.ts'
import { byteLength, elementCount, elementTypes } from '../graph/types.ts'
import { decodeTensor, packStrings } from './codec-tensor.ts'
import type { DataFiles } from './external-data.ts'
import { copyProto, type Proto } from './proto-schema.ts'

type SparseTensorProto = Proto<'SparseTensorProto'>

/** `indices` are positions in the flat tensor, or one row of coordinates per value. */
export function decodeSparse(p: SparseTensorProto, name: string, files: DataFiles): Tensor {
  const fault = (why: string) => modelError('sparse-tensor', `sparse tensor '${name}': ${why}`)
  if (!p.values || !p.indices) throw fault('it lacks its values or their indices')
  const dims = (p.dims ?? []).map(Number)
  const size = elementCount(dims)
  if (dims.some((d) => !(d >= 0)) || !Number.isSafeInteger(size)) throw fault(`its dims are [${dims.join(',')}]`)
  const values = decodeTensor(p.values, name, files)
  const indices = decodeTensor(p.indices, `the indices of ${name}`, files)
  const count = values.size
  const rows = indices.dims.length === 2
  const shape = rows ? [count, dims.length] : [count]
  if (indices.type !== 'int64' || indices.dims.join() !== shape.join())
    throw fault(`${count} values have indices of type ${indices.type}[${indices.dims.join(',')}]`)
  if (elementTypes[values.type].bits % 8 !== 0) throw fault(`elements of type ${values.type} do not fill whole bytes`)
  const dense = (): Uint8Array => {
    requireHoldable({ elem: values.type, dims }, `sparse tensor '${name}'`)
    const at = positions(indices, rows ? dims : null, size)
    if (!at) throw fault('an index is out of range')
    return values.type === 'string' ? scatterStrings(p, at, size) : scatter(values, at, size)
  }
  return new Tensor(values.type, dims, dense, { sparse: p })
}

/** Where each value goes; null where that is out of range. `dims`: of coordinates. */
function positions(indices: Tensor, dims: readonly number[] | null, size: number): number[] | null {
  const numbers = indices.toNumbers()
  const width = dims?.length ?? 1
  const out: number[] = []
  for (let i = 0; i < numbers.length; i += width) {
    let at = 0
    for (let k = 0; k < width; k++) {
      const n = numbers[i + k]!
      if (!(n >= 0 && n < (dims ? dims[k]! : size))) return null
      at = dims ? at * dims[k]! + n : n
    }
    out.push(at)
  }
  return out
}

function scatter(values: Tensor, at: readonly number[], size: number): Uint8Array {
  const { bytes, type } = values
  const out = new Uint8Array(byteLength(type, size))
  const width = byteLength(type, 1)
  at.forEach((to, i) => {
    for (let k = 0; k < width; k++) out[to * width + k] = bytes[i * width + k]!
  })
  return out
}

function scatterStrings({ values }: SparseTensorProto, at: readonly number[], size: number): Uint8Array {
  const strings = Array<Uint8Array>(size).fill(new Uint8Array(0))
  at.forEach((to, i) => {
    strings[to] = values!.string_data![i]!
  })
  return packStrings(strings)
}

/** The message that the tensor was read from; null for any other. */
export function sparseOf(t: Tensor | null): SparseTensorProto | null {
  return (t?.origin?.sparse as SparseTensorProto | undefined) ?? null
}

export function encodeSparse(p: SparseTensorProto, name: string): SparseTensorProto {
  return p.values?.name === name ? p : { ...copyProto(p), values: { ...copyProto(p.values), name } }
}
