/** TypeProto to the IR's tensor types and back. Sequences, maps, optionals and sparse tensors have none: null. */
import { type Dim, elementTypeOf, elementTypes, type TensorType } from '../graph/types.ts'
import { copyProto, type Proto } from './proto-schema.ts'

function decodeDim(d: Proto<'Dimension'>): Dim {
  if (d.dim_value !== undefined) {
    const n = Number(d.dim_value)
    return n >= 0 ? n : null
  }
  return d.dim_param || null
}

/** null for what is not a tensor, or a tensor of an element type that ONNX 1.22 does not define. */
export function decodeType(type: Proto<'TypeProto'> | undefined): TensorType | null {
  const tensor = type?.tensor_type
  const elem = elementTypeOf(tensor?.elem_type ?? 0)
  if (!tensor || !elem) return null
  return { elem, dims: tensor.shape ? (tensor.shape.dim ?? []).map(decodeDim) : null }
}

/** `before`: the message this one replaces; its denotation stays, and that of each axis while the rank stays. */
export function encodeType(type: TensorType, before?: Proto<'TypeProto'>): Proto<'TypeProto'> {
  const old = before?.tensor_type
  const oldDims = old?.shape?.dim
  const tensor = copyProto<Proto<'TypeProtoTensor'>>(old, 'shape')
  tensor.elem_type = elementTypes[type.elem].code
  if (type.dims) {
    const { dims } = type
    const axes = oldDims?.length === dims.length ? oldDims : []
    tensor.shape = {
      ...copyProto<Proto<'TensorShapeProto'>>(old?.shape),
      dim: dims.map((d, i) => encodeDim(d, axes[i])),
    }
  }
  const out: Proto<'TypeProto'> = { tensor_type: tensor }
  if (before?.denotation !== undefined) out.denotation = before.denotation
  return out
}

function encodeDim(d: Dim, before: Proto<'Dimension'> | undefined): Proto<'Dimension'> {
  const out = copyProto<Proto<'Dimension'>>(before, 'dim_value', 'dim_param')
  if (typeof d === 'number') out.dim_value = BigInt(d)
  else if (d !== null) out.dim_param = d
  return out
}

export function sameType(a: TensorType | null, b: TensorType | null): boolean {
  if (a === b) return true
  if (!a || !b || a.elem !== b.elem) return false
  const { dims: p } = a
  const { dims: q } = b
  return p === q || (!!p && !!q && p.length === q.length && p.every((d, i) => d === q[i]))
}
