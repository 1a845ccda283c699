/** AttributeProto to Attribute and back. */
import { modelError } from '../base/errors.ts'
import type { Attribute, Opaque } from '../graph/attribute.ts'
import type { Graph } from '../graph/graph.ts'
import type { Tensor } from '../graph/tensor.ts'
import { encodeTensor, type TensorPlacement } from './codec-tensor.ts'
import { copyProto, type Proto } from './proto-schema.ts'

type AttributeProto = Proto<'AttributeProto'>
type Kind = Exclude<Attribute['kind'], 'reference'>

/** AttributeType codes (onnx.proto) and the field each kind is stored in. */
const kinds = {
  float: { code: 1, field: 'f' },
  int: { code: 2, field: 'i' },
  string: { code: 3, field: 's' },
  tensor: { code: 4, field: 't' },
  graph: { code: 5, field: 'g' },
  floats: { code: 6, field: 'floats' },
  ints: { code: 7, field: 'ints' },
  strings: { code: 8, field: 'strings' },
  tensors: { code: 9, field: 'tensors' },
  graphs: { code: 10, field: 'graphs' },
  sparseTensor: { code: 11, field: 'sparse_tensor' },
  sparseTensors: { code: 12, field: 'sparse_tensors' },
  typeProto: { code: 13, field: 'tp' },
  typeProtos: { code: 14, field: 'type_protos' },
} as const satisfies Record<Kind, { code: number; field: keyof AttributeProto }>

const kindOf = new Map(Object.entries(kinds).map(([kind, { code }]) => [code as number, kind as Kind]))

export interface AttributeReader {
  tensor(p: Proto<'TensorProto'>): Tensor
  graph(p: Proto<'GraphProto'>): Graph
}

/** Files of IR version 1 have no type: the field that is there tells. */
function guessKind(p: AttributeProto): Kind | undefined {
  return (Object.keys(kinds) as Kind[]).find((kind) => {
    const value = p[kinds[kind].field]
    return Array.isArray(value) ? value.length > 0 : Object.hasOwn(p, kinds[kind].field)
  })
}

export function decodeAttribute(p: AttributeProto, read: AttributeReader): Attribute {
  if (p.ref_attr_name) return { kind: 'reference', value: p.ref_attr_name, type: p.type ?? 0 }
  const kind = p.type ? kindOf.get(p.type) : guessKind(p)
  const fail = (why: string) => modelError('bad-attribute', `attribute '${p.name ?? ''}' ${why}`)
  if (!kind) throw fail(p.type ? `has type ${p.type}, which ONNX does not define` : 'has neither a type nor a value')
  const need = <T>(value: T | undefined): T => {
    if (value === undefined) throw fail('has no value')
    return value
  }
  const opaque = (x: unknown): Opaque => ({ opaque: x })
  switch (kind) {
    case 'float':
      return { kind, value: p.f ?? 0 }
    case 'int':
      return { kind, value: p.i ?? 0n }
    case 'string':
      return { kind, value: p.s ?? new Uint8Array(0) }
    case 'tensor':
      return { kind, value: read.tensor(need(p.t)) }
    case 'graph':
      return { kind, value: read.graph(need(p.g)) }
    case 'floats':
      return { kind, value: p.floats ?? [] }
    case 'ints':
      return { kind, value: p.ints ?? [] }
    case 'strings':
      return { kind, value: p.strings ?? [] }
    case 'tensors':
      return { kind, value: (p.tensors ?? []).map((t) => read.tensor(t)) }
    case 'graphs':
      return { kind, value: (p.graphs ?? []).map((g) => read.graph(g)) }
    case 'sparseTensor':
      return { kind, value: opaque(need(p.sparse_tensor)) }
    case 'typeProto':
      return { kind, value: opaque(need(p.tp)) }
    case 'sparseTensors':
      return { kind, value: (p.sparse_tensors ?? []).map(opaque) }
    case 'typeProtos':
      return { kind, value: (p.type_protos ?? []).map(opaque) }
  }
}

export interface AttributeWriter extends TensorPlacement {
  graph(g: Graph): Proto<'GraphProto'>
}

const valueFields = Object.values(kinds).map(({ field }) => field)

/** `read`: the message the attribute was read from, or that of an attribute it replaced. */
export function encodeAttribute(
  name: string,
  a: Attribute,
  write: AttributeWriter,
  read?: { readonly of: Attribute; readonly proto: AttributeProto },
): AttributeProto {
  const untouched = read?.of === a
  const p = untouched ? copyProto(read.proto) : copyProto(read?.proto, 'type', 'ref_attr_name', ...valueFields)
  if ((p.name ?? '') !== name) p.name = name
  if (!untouched) {
    p.type = a.kind === 'reference' ? a.type : kinds[a.kind].code
    setValue(p, a)
  }
  // Tensors and graphs may be changed or moved although the attribute is the one that was read.
  if (a.kind === 'tensor') p.t = encodeTensor(a.value, undefined, write)
  else if (a.kind === 'tensors') p.tensors = a.value.map((t) => encodeTensor(t, undefined, write))
  else if (a.kind === 'graph') p.g = write.graph(a.value)
  else if (a.kind === 'graphs') p.graphs = a.value.map((g) => write.graph(g))
  return p
}

function setValue(p: AttributeProto, a: Attribute): void {
  switch (a.kind) {
    case 'reference':
      p.ref_attr_name = a.value
      break
    case 'float':
      p.f = a.value
      break
    case 'int':
      p.i = a.value
      break
    case 'string':
      p.s = a.value
      break
    case 'floats':
      p.floats = [...a.value]
      break
    case 'ints':
      p.ints = [...a.value]
      break
    case 'strings':
      p.strings = [...a.value]
      break
    case 'sparseTensor':
      p.sparse_tensor = a.value.opaque as Proto<'SparseTensorProto'>
      break
    case 'typeProto':
      p.tp = a.value.opaque as Proto<'TypeProto'>
      break
    case 'sparseTensors':
      p.sparse_tensors = a.value.map((x) => x.opaque as Proto<'SparseTensorProto'>)
      break
    case 'typeProtos':
      p.type_protos = a.value.map((x) => x.opaque as Proto<'TypeProto'>)
  }
}
