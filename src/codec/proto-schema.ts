/**
 * The messages of ONNX 1.22 (onnx-ml.proto) as one table; the TypeScript types come from it, and proto.ts reads and
 * writes by it. Wire-compatible with the official definition, and different from it in four ways that keep more of a
 * file:
 * - enums are int32, so that values newer than this table survive;
 * - `oneof` members are plain optional fields;
 * - doc strings are bytes (some exporters write text that is not UTF-8; every other string must be UTF-8);
 * - the packed data of a tensor (`float_data` ...) is kept as its packed bytes, one entry a chunk: nothing is converted,
 *   so NaN payloads and 64-bit integers survive and a large tensor costs no array of numbers. Elements that a writer
 *   did not pack are found among the unknown fields (see codec-tensor.ts). `data` may stay in the file.
 */
import type { Bytes } from '../base/bytes.ts'

const schema = {
  AttributeProto: {
    name: [1, 'string'],
    f: [2, 'float'],
    i: [3, 'int64'],
    s: [4, 'bytes'],
    t: [5, 'TensorProto'],
    g: [6, 'GraphProto'],
    floats: [7, 'float', '*'],
    ints: [8, 'int64', '*'],
    strings: [9, 'bytes', '*'],
    tensors: [10, 'TensorProto', '*'],
    graphs: [11, 'GraphProto', '*'],
    doc_string: [13, 'bytes'],
    tp: [14, 'TypeProto'],
    type_protos: [15, 'TypeProto', '*'],
    type: [20, 'int32'],
    ref_attr_name: [21, 'string'],
    sparse_tensor: [22, 'SparseTensorProto'],
    sparse_tensors: [23, 'SparseTensorProto', '*'],
  },
  ValueInfoProto: {
    name: [1, 'string'],
    type: [2, 'TypeProto'],
    doc_string: [3, 'bytes'],
    metadata_props: [4, 'StringStringEntryProto', '*'],
  },
  NodeProto: {
    input: [1, 'string', '*'],
    output: [2, 'string', '*'],
    name: [3, 'string'],
    op_type: [4, 'string'],
    attribute: [5, 'AttributeProto', '*'],
    doc_string: [6, 'bytes'],
    domain: [7, 'string'],
    overload: [8, 'string'],
    metadata_props: [9, 'StringStringEntryProto', '*'],
    device_configurations: [10, 'NodeDeviceConfigurationProto', '*'],
  },
  IntIntListEntryProto: { key: [1, 'int64'], value: [2, 'int64', '*'] },
  NodeDeviceConfigurationProto: {
    configuration_id: [1, 'string'],
    sharding_spec: [2, 'ShardingSpecProto', '*'],
    pipeline_stage: [3, 'int32'],
  },
  ShardingSpecProto: {
    tensor_name: [1, 'string'],
    device: [2, 'int64', '*'],
    index_to_device_group_map: [3, 'IntIntListEntryProto', '*'],
    sharded_dim: [4, 'ShardedDimProto', '*'],
  },
  ShardedDimProto: { axis: [1, 'int64'], simple_sharding: [2, 'SimpleShardedDimProto', '*'] },
  SimpleShardedDimProto: { dim_value: [1, 'int64'], dim_param: [2, 'string'], num_shards: [3, 'int64'] },
  TrainingInfoProto: {
    initialization: [1, 'GraphProto'],
    algorithm: [2, 'GraphProto'],
    initialization_binding: [3, 'StringStringEntryProto', '*'],
    update_binding: [4, 'StringStringEntryProto', '*'],
  },
  ModelProto: {
    ir_version: [1, 'int64'],
    producer_name: [2, 'string'],
    producer_version: [3, 'string'],
    domain: [4, 'string'],
    model_version: [5, 'int64'],
    doc_string: [6, 'bytes'],
    graph: [7, 'GraphProto'],
    opset_import: [8, 'OperatorSetIdProto', '*'],
    metadata_props: [14, 'StringStringEntryProto', '*'],
    training_info: [20, 'TrainingInfoProto', '*'],
    functions: [25, 'FunctionProto', '*'],
    configuration: [26, 'DeviceConfigurationProto', '*'],
  },
  DeviceConfigurationProto: { name: [1, 'string'], num_devices: [2, 'int32'], device: [3, 'string', '*'] },
  StringStringEntryProto: { key: [1, 'string'], value: [2, 'string'] },
  TensorAnnotation: {
    tensor_name: [1, 'string'],
    quant_parameter_tensor_names: [2, 'StringStringEntryProto', '*'],
  },
  GraphProto: {
    node: [1, 'NodeProto', '*'],
    name: [2, 'string'],
    initializer: [5, 'TensorProto', '*'],
    doc_string: [10, 'bytes'],
    input: [11, 'ValueInfoProto', '*'],
    output: [12, 'ValueInfoProto', '*'],
    value_info: [13, 'ValueInfoProto', '*'],
    quantization_annotation: [14, 'TensorAnnotation', '*'],
    sparse_initializer: [15, 'SparseTensorProto', '*'],
    metadata_props: [16, 'StringStringEntryProto', '*'],
  },
  TensorProto: {
    dims: [1, 'int64', '*'],
    data_type: [2, 'int32'],
    segment: [3, 'TensorSegment'],
    float_data: [4, 'data', '*'],
    int32_data: [5, 'bytes', '*'],
    string_data: [6, 'bytes', '*'],
    int64_data: [7, 'bytes', '*'],
    name: [8, 'string'],
    raw_data: [9, 'data'],
    double_data: [10, 'data', '*'],
    uint64_data: [11, 'bytes', '*'],
    doc_string: [12, 'bytes'],
    external_data: [13, 'StringStringEntryProto', '*'],
    data_location: [14, 'int32'],
    metadata_props: [16, 'StringStringEntryProto', '*'],
  },
  TensorSegment: { begin: [1, 'int64'], end: [2, 'int64'] },
  SparseTensorProto: { values: [1, 'TensorProto'], indices: [2, 'TensorProto'], dims: [3, 'int64', '*'] },
  TensorShapeProto: { dim: [1, 'Dimension', '*'] },
  Dimension: { dim_value: [1, 'int64'], dim_param: [2, 'string'], denotation: [3, 'string'] },
  TypeProto: {
    tensor_type: [1, 'TypeProtoTensor'],
    sequence_type: [4, 'TypeProtoSequence'],
    map_type: [5, 'TypeProtoMap'],
    denotation: [6, 'string'],
    opaque_type: [7, 'TypeProtoOpaque'],
    sparse_tensor_type: [8, 'TypeProtoTensor'],
    optional_type: [9, 'TypeProtoSequence'],
  },
  TypeProtoTensor: { elem_type: [1, 'int32'], shape: [2, 'TensorShapeProto'] },
  TypeProtoSequence: { elem_type: [1, 'TypeProto'] },
  TypeProtoMap: { key_type: [1, 'int32'], value_type: [2, 'TypeProto'] },
  TypeProtoOpaque: { domain: [1, 'string'], name: [2, 'string'] },
  OperatorSetIdProto: { domain: [1, 'string'], version: [2, 'int64'] },
  FunctionProto: {
    name: [1, 'string'],
    input: [4, 'string', '*'],
    output: [5, 'string', '*'],
    attribute: [6, 'string', '*'],
    node: [7, 'NodeProto', '*'],
    doc_string: [8, 'bytes'],
    opset_import: [9, 'OperatorSetIdProto', '*'],
    domain: [10, 'string'],
    attribute_proto: [11, 'AttributeProto', '*'],
    value_info: [12, 'ValueInfoProto', '*'],
    overload: [13, 'string'],
    metadata_props: [14, 'StringStringEntryProto', '*'],
  },
} as const

interface Scalars {
  string: string
  bytes: Uint8Array
  data: Bytes
  int32: number
  int64: bigint
  float: number
}
type Schema = typeof schema
export type MessageName = keyof Schema
export type ScalarName = keyof Scalars
type Single<T> = T extends keyof Scalars ? Scalars[T] : T extends MessageName ? Proto<T> : never
type Field<F> = F extends readonly [number, infer T, '*']
  ? Single<T>[]
  : F extends readonly [number, infer T]
    ? Single<T>
    : never

/** A message as the codec handles it: absent fields are absent, fields that the table lacks are in `$unknowns`. */
export type Proto<M extends MessageName> = { -readonly [K in keyof Schema[M]]?: Field<Schema[M][K]> } & {
  /** As they stood in the file, tags included; neighbours of one tag are one entry. */
  $unknowns?: Uint8Array[]
}

export type FieldSpec = readonly [number, ScalarName | MessageName, '*'?]

/** The fields of a message, by name. */
export const fieldsOf = (name: MessageName): Readonly<Record<string, FieldSpec>> => schema[name]

export const messageNames = Object.keys(schema) as MessageName[]

/** A copy to edit, without some of the fields. */
export function copyProto<P extends { $unknowns?: Uint8Array[] }>(message: P | undefined, ...without: (keyof P)[]): P {
  const copy = { ...message } as P
  for (const key of without) delete copy[key]
  return copy
}
