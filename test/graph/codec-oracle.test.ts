/**
 * onnx-proto 8 (ONNX 1.10) as an independent reader: models are stripped of everything the codec remembers about their
 * file, written anew, and must mean the same to it as the files they came from. Tensor contents are compared too, from
 * whichever field they were stored in.
 */
import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import test from 'node:test'
import onnxProto from 'onnx-proto'
import { decodeModel, encodeModel } from '../../src/codec/codec.ts'
import { graphExtra } from '../../src/codec/codec-extra.ts'
import type { Graph } from '../../src/graph/graph.ts'
import type { Model } from '../../src/graph/model.ts'
import { Tensor } from '../../src/graph/tensor.ts'
import { nodeTests, zoo } from './files.ts'

const { onnx } = onnxProto
type Json = null | string | number | boolean | Json[] | { [key: string]: Json }

/** IR version of ONNX 1.10, and of 1.10's element types. */
const LAST_IR = 8

const fresh = (t: Tensor): Tensor => new Tensor(t.type, t.dims, t.bytes)

/** Forgets how the file said it: new tensors, no extras. */
function strip(model: Model): void {
  const graph = (g: Graph): void => {
    // before IR 4: the order in which inputs and initializers are listed together
    const inputOrder = graphExtra(g)?.inputOrder
    g.extra = inputOrder && { kind: 'graph', proto: {}, strayInfo: [], inputOrder }
    for (const v of g.values()) {
      const { type } = v
      if (v.constant) v.setConstant(fresh(v.constant))
      if (v.default) v.setDefault(fresh(v.default))
      if (type) v.setType(type)
      v.extra = undefined
    }
    for (const n of g.nodes()) {
      n.extra = undefined
      for (const [name, a] of n.attributes)
        if (a.kind === 'tensor') n.setAttribute(name, fresh(a.value))
        else if (a.kind === 'ints' || a.kind === 'floats') n.setAttribute(name, { ...a })
      for (const body of n.subgraphs) graph(body)
    }
  }
  graph(model.graph)
  model.extra = undefined
}

/** The little-endian bytes of a tensor as onnx-proto shows it. */
function contents(t: InstanceType<typeof onnx.TensorProto>): string {
  if (t.rawData.length > 0) return Buffer.from(t.rawData).toString('hex')
  const hex = (bytes: ArrayBufferLike) => Buffer.from(bytes).toString('hex')
  const big = (list: readonly (number | { toString(): string })[]) =>
    BigInt64Array.from(list, (x) => BigInt(x.toString()))
  const { INT32, INT64, UINT64, UINT32, FLOAT16, BFLOAT16, UINT16, INT16 } = onnx.TensorProto.DataType
  if (t.stringData.length > 0) return t.stringData.map((s) => Buffer.from(s).toString('hex')).join()
  if (t.floatData.length > 0) return hex(Float32Array.from(t.floatData).buffer)
  if (t.doubleData.length > 0) return hex(Float64Array.from(t.doubleData).buffer)
  if (t.dataType === INT64) return hex(big(t.int64Data).buffer)
  if (t.dataType === UINT64) return hex(big(t.uint64Data).buffer)
  if (t.dataType === UINT32) return hex(Uint32Array.from(t.uint64Data, Number).buffer)
  if (t.dataType === INT32) return hex(Int32Array.from(t.int32Data).buffer)
  if ([FLOAT16, BFLOAT16, UINT16, INT16].includes(t.dataType as never)) return hex(Uint16Array.from(t.int32Data).buffer)
  return hex(Uint8Array.from(t.int32Data).buffer)
}

/** What a message says to onnx-proto, with tensors as contents and without what the IR leaves in extras. */
function facts(x: unknown, inAttribute = false): Json {
  if (x instanceof onnx.TensorProto) {
    const { dims, dataType, name } = x
    return { dims: dims.map(String), dataType, name: inAttribute ? '' : name, contents: contents(x) }
  }
  if (Array.isArray(x)) return x.map((y) => facts(y, inAttribute))
  if (x instanceof Uint8Array) return Buffer.from(x).toString('hex')
  if (typeof x === 'number') return Object.is(x, -0) ? '-0' : String(x)
  if (typeof x !== 'object' || x === null) return (x ?? null) as Json
  if ('toNumber' in x) return String(x)
  const dropped = ['docString', 'valueInfo', 'quantizationAnnotation', 'sparseInitializer', 'denotation']
  const entries = Object.entries(x).filter(([key, value]) => !dropped.includes(key) && !isDefault(key, value))
  if (entries.some(([k, v]) => k === 'domain' && v === 'ai.onnx'))
    entries.splice(0, entries.length, ...entries.filter(([k]) => k !== 'domain'))
  const attribute = inAttribute || x instanceof onnx.AttributeProto
  return Object.fromEntries(entries.sort(([a], [b]) => (a < b ? -1 : 1)).map(([k, v]) => [k, facts(v, attribute)]))
}

/** Absent and explicitly empty mean the same. */
const isDefault = (key: string, x: unknown): boolean =>
  x === '' ||
  (Array.isArray(x) && x.length === 0) ||
  (key === 'modelVersion' && String(x) === '0') ||
  (x instanceof onnx.TypeProto && !x.value)

/** Models with features that this comparison drops would compare less than they say. */
function comparable(m: InstanceType<typeof onnx.ModelProto>): boolean {
  const { graph } = m
  const types = (graph?.initializer ?? []).every((t) => (t.dataType ?? 0) <= 16)
  const tensorsOnly = [...(graph?.input ?? []), ...(graph?.output ?? [])].every((v) => v.type?.tensorType)
  return Number(m.irVersion) <= LAST_IR && types && tensorsOnly && (graph?.sparseInitializer ?? []).length === 0
}

test('what is written from the IR alone says the same to onnx-proto as the original', (t) => {
  // Every eighth node test: the operators repeat the same few shapes of message.
  const sampled = nodeTests().filter((_, i) => i % 8 === 0)
  const files = [...zoo(), ...sampled]
  if (files.length === 0) return t.skip('files not there')
  let compared = 0
  for (const file of files) {
    const before = readFileSync(file)
    const original = onnx.ModelProto.decode(before)
    if (!comparable(original) || file.endsWith('ort_bert_toy_optimized.onnx')) continue
    const model = decodeModel(before)
    strip(model)
    assert.deepEqual(facts(onnx.ModelProto.decode(encodeModel(model))), facts(original), file)
    compared++
  }
  t.diagnostic(`${compared} of ${files.length} files lie within ONNX 1.10 and were compared`)
  // Either source alone must give some; a third of the node tests lie within ONNX 1.10.
  assert.ok(compared > 5 + sampled.length / 4, `only ${compared}`)
})
