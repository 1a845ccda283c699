/**
 * Weights wherever exporters put them: prune and quantize find them, and the channel axis is the right one. Channels
 * differ in size by a factor of ten each, so that scales along a wrong axis would round the small ones away.
 */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { Rng } from '../../src/base/rng.ts'
import { cloneModel } from '../../src/graph/clone.ts'
import { Graph, type Value } from '../../src/graph/graph.ts'
import { Model } from '../../src/graph/model.ts'
import { Tensor } from '../../src/graph/tensor.ts'
import { type ElementType, elementTypes } from '../../src/graph/types.ts'
import { weightLayers } from '../../src/layers/layers.ts'
import { runPass } from '../../src/passes/run-pass.ts'
import { ortExecutor } from '../../src/runtime/ort/ort.ts'

interface Layer {
  readonly op: string
  readonly input: readonly number[]
  readonly weight: readonly number[]
  /** Output channels of the weight. */
  readonly axis: number
  readonly attributes?: Readonly<Record<string, number>>
}

const layers: Readonly<Record<string, Layer>> = {
  Conv: { op: 'Conv', input: [2, 3, 5, 5], weight: [4, 3, 3, 3], axis: 0 },
  'grouped Conv': { op: 'Conv', input: [2, 4, 5, 5], weight: [4, 2, 3, 3], axis: 0, attributes: { group: 2 } },
  'depthwise Conv': { op: 'Conv', input: [2, 4, 5, 5], weight: [4, 1, 3, 3], axis: 0, attributes: { group: 4 } },
  ConvTranspose: { op: 'ConvTranspose', input: [2, 3, 4, 4], weight: [3, 4, 2, 2], axis: 1 },
  Gemm: { op: 'Gemm', input: [3, 6], weight: [6, 4], axis: 1 },
  'Gemm, transB': { op: 'Gemm', input: [3, 6], weight: [4, 6], axis: 0, attributes: { transB: 1 } },
  MatMul: { op: 'MatMul', input: [2, 3, 6], weight: [6, 4], axis: 1 },
}

/** The values of a weight, channels a factor of ten apart. */
function weightOf({ weight, axis }: Layer, elem: ElementType): Tensor {
  const rng = new Rng(4)
  const inner = weight.slice(axis + 1).reduce((p, d) => p * d, 1)
  const size = weight.reduce((p, d) => p * d, 1)
  const values = Array.from({ length: size }, (_, i) => rng.normal() * 10 ** -(Math.floor(i / inner) % weight[axis]!))
  return Tensor.from(elem, weight, values)
}

const rowMajor = (dims: readonly number[]): number[] => dims.map((_, i) => dims.slice(i + 1).reduce((p, d) => p * d, 1))

function transposed(t: Tensor, perm: readonly number[]): Tensor {
  const from = t.toNumbers()
  const dims = perm.map((p) => t.dims[p]!)
  const [old, now] = [rowMajor(t.dims), rowMajor(dims)]
  const values = Array.from({ length: t.size }, (_, at) => {
    const place = dims.map((d, i) => Math.floor(at / now[i]!) % d)
    return from[place.reduce((sum, p, i) => sum + p * old[perm[i]!]!, 0)]!
  })
  return Tensor.from(t.type, dims, values)
}

/** How a stored weight becomes the operand. */
const places: Readonly<Record<string, (g: Graph, l: Layer) => Value>> = {
  'an initializer': (g, l) => g.addInitializer('w', weightOf(l, 'float32')),
  'a Constant node': (g, l) => g.append().op('Constant', [], { value: weightOf(l, 'float32') }),
  'float16 behind a Cast': (g, l) => cast(g, g.addInitializer('w', weightOf(l, 'float16'))),
  'bfloat16 behind a Cast': (g, l) => cast(g, g.addInitializer('w', weightOf(l, 'bfloat16'))),
  'behind a Transpose': (g, l) => {
    const perm = l.weight.map((_, i) => l.weight.length - 1 - i)
    return g.append().op('Transpose', [g.addInitializer('w', transposed(weightOf(l, 'float32'), perm))], { perm })
  },
  'flat behind a Reshape': (g, l) => {
    const w = weightOf(l, 'float32')
    const two = [l.weight[0]!, l.weight[1]!, w.size / l.weight[0]! / l.weight[1]!]
    return g.append().op('Reshape', [g.addInitializer('w', w.reshape(two)), g.append().ints(l.weight)])
  },
  'behind Cast, Unsqueeze, Transpose and Squeeze': (g, l) => {
    const b = g.append()
    const rank = l.weight.length
    const perm = [rank, ...Array.from({ length: rank }, (_, i) => rank - 1 - i)]
    const turned = transposed(weightOf(l, 'float16'), perm.slice(1))
    const open = b.op('Unsqueeze', [cast(g, g.addInitializer('w', turned)), b.ints([rank])])
    return b.op('Squeeze', [b.op('Transpose', [open], { perm }), b.ints([0])])
  },
}

const cast = (g: Graph, v: Value): Value => g.append().op('Cast', [v], { to: elementTypes.float32.code })

function network(layer: Layer, place: (g: Graph, l: Layer) => Value): Model {
  const model = new Model(new Graph('net'))
  const { graph } = model
  const x = graph.addInput('x', { elem: 'float32', dims: layer.input })
  const w = place(graph, layer)
  const y = graph.append().op(layer.op, [x, w], layer.attributes ?? {}, { name: 'layer' })
  y.setType({ elem: 'float32', dims: null })
  graph.addOutput(y)
  return model
}

async function run(model: Model): Promise<Tensor> {
  const session = await ortExecutor().load(model, { threads: 1, optimization: 'disabled' })
  const rng = new Rng(6)
  const dims = model.graph.inputs[0]!.dims
  const x = Float32Array.from({ length: dims.reduce((p, d) => p * d, 1) }, () => rng.normal())
  const out = await session.run({ x: Tensor.float32(dims, x) })
  await session.dispose()
  return Object.values(out)[0]!
}

/** Largest error of a channel relative to what is largest in it. */
function worstChannel(want: Tensor, have: Tensor, axis: number): number {
  const [a, b] = [want.toNumbers(), have.toNumbers()]
  const inner = want.dims.slice(axis + 1).reduce((p, d) => p * d, 1)
  const count = want.dims[axis]!
  const [size, error] = [new Float64Array(count), new Float64Array(count)]
  for (let i = 0; i < a.length; i++) {
    const c = Math.floor(i / inner) % count
    size[c] = Math.max(size[c]!, Math.abs(a[i]!))
    error[c] = Math.max(error[c]!, Math.abs(a[i]! - b[i]!))
  }
  return Math.max(...error.map((e, c) => e / size[c]!))
}

for (const [name, layer] of Object.entries(layers))
  test(`${name}: weights wherever they stand`, async () => {
    for (const [place, make] of Object.entries(places)) {
      const model = network(layer, make)
      const want = await run(model)
      const axis = layer.op.startsWith('Conv') ? 1 : want.dims.length - 1
      const quantised = cloneModel(model)
      await runPass(quantised, 'quantize', {
        weightBits: 8,
        activationBits: 0,
        ops: [layer.op],
        firstLayer: 'quantize',
      })
      const error = worstChannel(want, await run(quantised), axis)
      assert.ok(error > 0 && error < 0.03, `${place}: quantised, a channel is off by ${error}`)
      const pruned = cloneModel(model)
      await runPass(pruned, 'prune', { sparsity: 0.5, ops: [layer.op] })
      const mask = weightLayers(pruned.graph)[0]?.mask?.constant?.toFloat32()
      assert.ok(mask, `${place}: pruned`)
      assert.equal(mask.filter((m) => m === 0).length, mask.length / 2, place)
      await runPass(pruned, 'quantize', { weightBits: 8, activationBits: 0, ops: [layer.op], firstLayer: 'quantize' })
      assert.notEqual(weightLayers(pruned.graph)[0]?.quant, null, `${place}: quantised behind the mask`)
      await run(pruned)
    }
  })
