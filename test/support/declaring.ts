/**
 * The same network as exporters of different years declare it: IR and opset, initializers that are inputs too, a
 * sparse initializer, a function at an opset of its own, doc strings and metadata everywhere, named dims.
 */
import { Rng } from '../../src/base/rng.ts'
import { decodeModel } from '../../src/codec/codec.ts'
import { modelToProto } from '../../src/codec/codec-encode.ts'
import { allInline } from '../../src/codec/placement.ts'
import { encodeProto } from '../../src/codec/proto.ts'
import type { Proto } from '../../src/codec/proto-schema.ts'
import { Graph, type Value } from '../../src/graph/graph.ts'
import { Model } from '../../src/graph/model.ts'
import { Tensor } from '../../src/graph/tensor.ts'

export interface Declaring {
  readonly ir: number
  readonly opset: number
  /** Initializers that are inputs with a default (IR 4 and later; before, all of them are inputs and constants). */
  readonly overridable: 'none' | 'some' | 'all'
  readonly sparse: boolean
  /** Opset of a function that the network calls; null for none. */
  readonly functionOpset: number | null
  readonly norm: boolean
  /** The input is an output too, declared there with other names of dims. */
  readonly passthrough: boolean
  /** Inputs and outputs have doc strings. */
  readonly documented: boolean
  readonly seed: number
}

const CHANNELS = 8
const SIZE = 6
/** Of the initializers, where only some can be overridden. */
const PART = ['w2', 'beta']
const bytes = (text: string): Uint8Array => new TextEncoder().encode(text)

/** The file. */
export function declaringFile(d: Declaring): Uint8Array {
  const rng = new Rng(d.seed)
  const graph = new Graph('declaring')
  const model = new Model(graph, d.opset)
  model.irVersion = d.ir
  const random = (name: string, dims: number[], low = -1): Value => {
    const values = Float32Array.from({ length: dims.reduce((n, k) => n * k, 1) }, () => rng.uniform(low, 1))
    return graph.addInitializer(name, Tensor.float32(dims, values))
  }
  const b = graph.append()
  const x = graph.addInput('x', { elem: 'float32', dims: ['N', 3, SIZE, SIZE] })
  let h = b.op('Conv', [x, random('w1', [CHANNELS, 3, 3, 3]), random('b1', [CHANNELS])], { pads: [1, 1, 1, 1] })
  if (d.norm) {
    const parameters = ['gamma', 'beta', 'mean', 'var'].map((n) => random(n, [CHANNELS], n === 'var' ? 0.5 : -1))
    const old = d.opset < 7 ? { is_test: 1, ...(d.opset < 6 && { consumed_inputs: [0, 0, 0, 1, 1] }) } : {}
    h = b.op('BatchNormalization', [h, ...parameters], old, { name: 'norm' })
  }
  h = b.op('Relu', [h])
  if (d.functionOpset !== null) {
    const body = new Graph('Bend')
    const a = body.addInput('a', null)
    const end = body.append()
    body.addOutput(end.op('Neg', [end.op('LeakyRelu', [a])]))
    const opsets = new Map([['', d.functionOpset]])
    const def = { domain: 'own', name: 'Bend', overload: '', attributes: [], opsets, graph: body, extra: undefined }
    model.functions.push(def)
    model.opsets.set('own', 1)
    h = b.op('Bend', [h], {}, { domain: 'own' })
  }
  h = b.op('Conv', [h, random('w2', [CHANNELS, CHANNELS, 3, 3])], { pads: [1, 1, 1, 1] }, { name: 'second' })
  if (d.sparse) h = b.op('Mul', [h, graph.addInput('s', { elem: 'float32', dims: [CHANNELS, 1, 1] })])
  const y = b.op(
    'Softmax',
    [h],
    { axis: 1 },
    { name: 'y', type: { elem: 'float32', dims: ['N', CHANNELS, 'rows', SIZE] } },
  )
  const pooled = b.op('Flatten', [b.op('GlobalAveragePool', [h])])
  const z = b.op(
    'MatMul',
    [pooled, random('w3', [CHANNELS, 5])],
    {},
    { name: 'z', type: { elem: 'float32', dims: ['N', 5] } },
  )
  graph.addOutput(y)
  graph.addOutput(z)
  model.docString = 'of the model'
  model.producerName = 'exporter'
  model.metadata.set('author', 'somebody')
  const p = modelToProto(model, allInline(model))
  document(p, d)
  return encodeProto('ModelProto', p)
}

export const declaringModel = (d: Declaring): Model => decodeModel(declaringFile(d))

/** What the library does not build: doc strings, defaults of inputs, a sparse tensor. */
function document(p: Proto<'ModelProto'>, d: Declaring): void {
  const graph = p.graph!
  graph.doc_string = bytes('of the graph')
  if (d.passthrough) {
    const dim = [{ dim_param: 'M' }, ...[3, SIZE, SIZE].map((n) => ({ dim_value: BigInt(n) }))]
    graph.output!.push({ name: 'x', type: { tensor_type: { elem_type: 1, shape: { dim } } } })
  }
  if (d.documented) for (const v of [...graph.input!, ...graph.output!]) v.doc_string = bytes(`of ${v.name}`)
  for (const f of p.functions ?? []) f.doc_string = bytes('of the function')
  const { overridable, ir } = d
  if (overridable !== 'none' && ir >= 4)
    for (const t of graph.initializer!) {
      if (overridable === 'some' && !PART.includes(t.name!)) continue
      const shape = { dim: t.dims!.map((dim_value) => ({ dim_value })) }
      graph.input!.push({ name: t.name!, type: { tensor_type: { elem_type: t.data_type!, shape } } })
    }
  if (!d.sparse) return
  graph.input = graph.input!.filter((v) => v.name !== 's')
  const values = { name: 's', data_type: 1, dims: [2n], raw_data: new Uint8Array(Float32Array.of(0.5, 2).buffer) }
  const indices = { data_type: 7, dims: [2n], raw_data: new Uint8Array(BigInt64Array.of(1n, 6n).buffer) }
  graph.sparse_initializer = [{ values, indices, dims: [BigInt(CHANNELS), 1n, 1n] }]
}
