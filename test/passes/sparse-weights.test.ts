/** Sparse initializers are weights like any other; a file that nothing changes keeps them sparse. */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { MncError } from '../../src/base/errors.ts'
import { Rng } from '../../src/base/rng.ts'
import { decodeModel, encodeModel } from '../../src/codec/codec.ts'
import { modelToProto } from '../../src/codec/codec-encode.ts'
import { allInline } from '../../src/codec/placement.ts'
import { encodeProto } from '../../src/codec/proto.ts'
import type { Proto } from '../../src/codec/proto-schema.ts'
import { printModel } from '../../src/codec/text.ts'
import { parseModel } from '../../src/codec/text-parse.ts'
import { exportModel } from '../../src/export/export-model.ts'
import { Graph } from '../../src/graph/graph.ts'
import { Model } from '../../src/graph/model.ts'
import { Tensor } from '../../src/graph/tensor.ts'
import { findPass, runPass } from '../../src/passes/run-pass.ts'
import { ortExecutor } from '../../src/runtime/ort/ort.ts'

const X = [2, 8, 6, 6] as const

/** A network whose named weights are mostly zero. */
function network(random: Rng): Model {
  const model = new Model(new Graph('net'), 21)
  const { graph } = model
  const weight = (name: string, dims: readonly number[]) =>
    graph.addInitializer(
      name,
      Tensor.float32(
        dims,
        Array.from({ length: dims.reduce((a, b) => a * b) }, () => (random.chance(0.3) ? random.normal() : 0)),
      ),
    )
  const f = graph.append()
  let x = graph.addInput('x', { elem: 'float32', dims: [...X] })
  x = f.op('Conv', [x, weight('w0', [16, 8, 3, 3])], { pads: [1, 1, 1, 1] })
  x = f.op('Relu', [x])
  x = f.op('Conv', [x, weight('w1', [16, 16, 3, 3])])
  x = f.op('Flatten', [x])
  x = f.op('Gemm', [x, weight('w2', [256, 12]), weight('b2', [12])], {}, { name: 'y' })
  x.setType({ elem: 'float32', dims: [2, 12] })
  graph.addOutput(x)
  return model
}

/** The same file with its weights in sparse form, positions counted flat or by coordinates. */
function sparseFile(model: Model, rows: boolean): Proto<'ModelProto'> {
  const p = modelToProto(model, allInline(model))
  const graph = p.graph!
  graph.sparse_initializer = graph.initializer!.map((t) => {
    const tensor = model.graph.find(t.name!)!.constant!
    const dims = tensor.dims.map(BigInt)
    const numbers = tensor.toFloat32()
    const at = [...numbers.keys()].filter((i) => numbers[i] !== 0)
    const coordinates = (i: number): number[] => {
      let rest = i
      return [...tensor.dims]
        .reverse()
        .map((d) => {
          const c = rest % d
          rest = (rest - c) / d
          return c
        })
        .reverse()
    }
    const list = BigInt64Array.from(at.flatMap((i) => (rows ? coordinates(i) : [i])).map(BigInt))
    const nnz = BigInt(at.length)
    const raw_data = new Uint8Array(Float32Array.from(at, (i) => numbers[i]!).buffer)
    return {
      values: { name: t.name!, data_type: 1, dims: [nnz], raw_data, doc_string: new TextEncoder().encode('kept') },
      indices: { data_type: 7, dims: rows ? [nnz, BigInt(dims.length)] : [nnz], raw_data: new Uint8Array(list.buffer) },
      dims,
    }
  })
  graph.initializer = []
  return p
}

const file = (model: Model, rows: boolean): Uint8Array => encodeProto('ModelProto', sparseFile(model, rows))

async function outputOf(model: Model): Promise<Float32Array> {
  const random = new Rng(5)
  const x = Tensor.float32(
    X,
    Array.from({ length: 576 }, () => random.normal()),
  )
  const session = await ortExecutor().load(model)
  const { y } = await session.run({ x })
  await session.dispose()
  return y!.toFloat32()
}

const sparseNames = (model: Model): string[] =>
  (modelToProto(model, allInline(model)).graph!.sparse_initializer ?? []).map((s) => s.values!.name!)

for (const rows of [false, true])
  for (const seed of [1, 2, 3])
    test(`positions ${rows ? 'by coordinates' : 'flat'}, seed ${seed}: read, written and computed with as dense ones are`, async () => {
      const dense = network(new Rng(seed))
      const bytes = file(dense, rows)
      const sparse = decodeModel(bytes)
      for (const v of dense.graph.initializers())
        assert.deepEqual(sparse.graph.find(v.name)!.constant!.toFloat32(), v.constant!.toFloat32(), v.name)
      assert.deepEqual(Buffer.from(encodeModel(sparse)), Buffer.from(bytes))
      const parsed = parseModel(printModel(sparse))
      assert.deepEqual(sparseNames(parsed), ['w0', 'w1', 'w2', 'b2'])
      assert.deepEqual(Buffer.from(encodeModel(parsed)), Buffer.from(bytes))
      assert.deepEqual(await outputOf(sparse), await outputOf(dense))
    })

const STEPS: readonly (readonly [name: string, options: Readonly<Record<string, unknown>>])[][] = [
  [['prune', { sparsity: 0.5, ops: ['Conv', 'Gemm'] }]],
  [
    ['prune', { sparsity: 0.5, pattern: 'channel', ops: ['Conv'] }],
    ['remove-channels', {}],
  ],
  [
    [
      'quantize',
      { weightBits: 4, activationBits: 0, ops: ['Conv', 'Gemm'], firstLayer: 'quantize', lastLayer: 'quantize' },
    ],
  ],
  [
    ['fold-bn', {}],
    ['fold-constants', {}],
    ['widen-floats', {}],
  ],
]

for (const steps of STEPS)
  test(`${steps.map(([name]) => name).join(', ')}: as on the dense model, and so are all exports`, async () => {
    const dense = network(new Rng(7))
    const sparse = decodeModel(file(dense, true))
    for (const [name, options] of steps) {
      const [a, b] = [await runPass(dense, findPass(name), options), await runPass(sparse, findPass(name), options)]
      assert.equal(a.changed, b.changed)
      assert.deepEqual(b.left, a.left)
    }
    assert.deepEqual(await outputOf(sparse), await outputOf(dense))
    for (const format of ['packed', 'int4', 'int8'] as const) {
      const [a, b] = [await exportModel(dense, { format }), await exportModel(sparse, { format })]
      assert.deepEqual(await outputOf(b.model), await outputOf(a.model), format)
    }
  })

test('a weight that no pass touches stays sparse in the file', async () => {
  const model = decodeModel(file(network(new Rng(9)), false))
  await runPass(model, 'prune', { only: ['w1'], sparsity: 0.9, ops: ['Conv'] }).catch(() => null)
  await runPass(model, 'freeze', { ops: ['Conv'] })
  assert.deepEqual(sparseNames(model), ['w0', 'w1', 'w2', 'b2'])
  model.graph.rename(model.graph.find('w2')!, 'renamed')
  assert.deepEqual(sparseNames(decodeModel(encodeModel(model))), ['w0', 'w1', 'renamed', 'b2'])
})

test('what cannot be made into a tensor is a model error that names it', () => {
  const broken = (change: (s: Proto<'SparseTensorProto'>) => void): (() => Model) => {
    const p = sparseFile(network(new Rng(1)), false)
    change(p.graph!.sparse_initializer![1]!)
    return () => decodeModel(encodeProto('ModelProto', p))
  }
  const named = (e: unknown): boolean => e instanceof MncError && e.blame === 'model' && e.message.includes("'w1'")
  assert.throws(
    broken((s) => (s.indices!.dims = [1n])),
    (e) => e instanceof MncError && e.blame === 'model',
  )
  assert.throws(
    broken((s) => (s.dims = [-1n, 16n, 3n, 3n])),
    named,
  )
  assert.throws(
    broken((s) => (s.dims = [2n ** 40n, 2n ** 40n])),
    named,
  )
  const outside = broken((s) => (s.dims = [1n, 1n]))()
  assert.throws(() => outside.graph.find('w1')!.constant!.bytes, named)
  const huge = broken((s) => (s.dims = [2n ** 20n, 2n ** 20n]))()
  assert.throws(() => huge.graph.find('w1')!.constant!.bytes, named)
})
