/** A file with one TensorProto: what ONNX's test data are. */
import type { Tensor } from '../graph/tensor.ts'
import { decodeTensor } from './codec-tensor.ts'
import { DataFiles } from './external-data.ts'
import { decodeProto } from './proto.ts'

/** A model error for bytes that are no tensor. */
export function readTensorProto(bytes: Uint8Array): { readonly name: string; readonly tensor: Tensor } {
  const proto = decodeProto('TensorProto', bytes)
  const name = typeof proto.name === 'string' ? proto.name : ''
  return { name, tensor: decodeTensor(proto, name, new DataFiles(undefined)) }
}
