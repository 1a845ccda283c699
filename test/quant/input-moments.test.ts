/**
 * Moments of layers' inputs against onnxruntime: of a layer without bias, w gram w' is the mean square of its output and
 * w mean' its mean, for each row w of its weight.
 */
import assert from 'node:assert/strict'
import test from 'node:test'
import { Rng } from '../../src/base/rng.ts'
import type { AttributeLike } from '../../src/graph/attribute.ts'
import { Graph } from '../../src/graph/graph.ts'
import { Model } from '../../src/graph/model.ts'
import { Tensor } from '../../src/graph/tensor.ts'
import { weightLayers } from '../../src/layers/layers.ts'
import { inputMoments, momentsWalk } from '../../src/quant/input-moments.ts'
import { gatherRows, weightRows } from '../../src/quant/weight-rows.ts'
import { ortExecutor } from '../../src/runtime/ort/ort.ts'

interface Case {
  readonly op: string
  readonly data: readonly (number | string)[]
  readonly weight: readonly number[]
  readonly attributes?: Readonly<Record<string, AttributeLike>>
  /** Axis of the output that counts channels. */
  readonly axis: number
  /** Input channels of each sample come first. */
  readonly opset?: number
}

const CASES: readonly Case[] = [
  { op: 'Conv', data: ['N', 3, 5, 6], weight: [4, 3, 3, 3], attributes: { pads: [1, 1, 1, 1] }, axis: 1 },
  { op: 'Conv', data: ['N', 3, 5, 6], weight: [4, 3, 1, 1], axis: 1 },
  { op: 'Conv', data: ['N', 3, 5, 6], weight: [4, 3, 1, 1], attributes: { strides: [2, 2] }, axis: 1 },
  {
    op: 'Conv',
    data: ['N', 2, 9, 8],
    weight: [3, 2, 3, 2],
    attributes: { strides: [2, 3], pads: [2, 0, 1, 1] },
    axis: 1,
  },
  {
    op: 'Conv',
    data: ['N', 2, 9, 8],
    weight: [3, 2, 2, 3],
    attributes: { dilations: [3, 2], strides: [2, 1] },
    axis: 1,
  },
  { op: 'Conv', data: ['N', 4, 6, 5], weight: [4, 1, 3, 3], attributes: { group: 4, pads: [1, 1, 1, 1] }, axis: 1 },
  {
    op: 'Conv',
    data: ['N', 4, 6, 5],
    weight: [6, 2, 3, 3],
    attributes: { group: 2, auto_pad: 'SAME_UPPER', strides: [2, 2] },
    axis: 1,
  },
  {
    op: 'Conv',
    data: ['N', 4, 7, 5],
    weight: [8, 1, 2, 2],
    attributes: { group: 4, auto_pad: 'SAME_LOWER' },
    axis: 1,
    opset: 11,
  },
  { op: 'Conv', data: ['N', 3, 9], weight: [2, 3, 3], attributes: { pads: [1, 0] }, axis: 1 },
  { op: 'Conv', data: ['N', 2, 4, 5, 3], weight: [2, 2, 2, 2, 2], axis: 1 },
  {
    op: 'ConvTranspose',
    data: ['N', 3, 4, 3],
    weight: [3, 2, 3, 3],
    attributes: { strides: [2, 2], pads: [1, 0, 1, 1] },
    axis: 1,
  },
  {
    op: 'ConvTranspose',
    data: ['N', 4, 4, 3],
    weight: [4, 3, 2, 2],
    attributes: { group: 2, strides: [2, 1] },
    axis: 1,
  },
  {
    op: 'ConvTranspose',
    data: ['N', 2, 3, 3],
    weight: [2, 2, 3, 3],
    attributes: { strides: [2, 2], output_padding: [1, 1], dilations: [2, 1] },
    axis: 1,
  },
  {
    op: 'ConvTranspose',
    data: ['N', 2, 3, 3],
    weight: [2, 2, 1, 1],
    attributes: { strides: [2, 2], output_shape: [6, 6] },
    axis: 1,
  },
  { op: 'Gemm', data: ['N', 5], weight: [5, 3], axis: 1 },
  { op: 'Gemm', data: ['N', 5], weight: [3, 5], attributes: { transB: 1 }, axis: 1 },
  { op: 'Gemm', data: [5, 4], weight: [5, 3], attributes: { transA: 1 }, axis: 1 },
  { op: 'MatMul', data: ['N', 5], weight: [5, 3], axis: 1 },
  { op: 'MatMul', data: ['N', 4, 2, 5], weight: [5, 3], axis: 3 },
]

function oneLayer({ op, data, weight, attributes = {}, opset = 21 }: Case): Model {
  const graph = new Graph('one')
  const x = graph.addInput('x', { elem: 'float32', dims: data })
  const rng = new Rng(4)
  const values = Float32Array.from({ length: weight.reduce((a, b) => a * b, 1) }, () => rng.uniform(-1, 1))
  const b = graph.append()
  const y = b.op(op, [x, b.initializer('w', Tensor.float32(weight, values))], attributes, { name: 'layer' })
  graph.addOutput(y)
  const model = new Model(graph)
  model.opsets.set('', opset)
  return model
}

/** Distances of the positions that are taken, along each axis of them. */
const everyOf = ({ op, weight, data }: Case): readonly number[] =>
  op === 'Gemm' || data.length === 2 ? [] : op === 'MatMul' ? [3] : weight.slice(2).map((_, axis) => 2 + axis)

const runs = CASES.flatMap((c, i) => [[] as readonly number[], everyOf(c)].map((every) => ({ c, i, every })))

for (const { c, i, every } of runs.filter(({ every }, at) => at % 2 === 0 || every.length > 0))
  test(`${c.op} ${c.weight.join('x')} ${JSON.stringify(c.attributes ?? {})}, every ${every.join()} position, ${i}`, async () => {
    const model = oneLayer(c)
    const rng = new Rng(i)
    // uneven batches: each position counts once
    const batches = (typeof c.data[0] === 'string' ? [3, 1, 4] : [1, 1]).map((n) => {
      const dims = c.data.map((d) => (typeof d === 'number' ? d : n))
      const size = dims.reduce((a, b) => a * b, 1)
      return {
        x: Tensor.float32(
          dims,
          Float32Array.from({ length: size }, () => rng.uniform(-0.5, 2)),
        ),
      }
    })
    const data = {
      async *batches() {
        yield* batches
      },
    }
    const [layer] = weightLayers(model.graph)
    const rows = weightRows(layer!)
    assert.ok(typeof rows !== 'string', String(rows))
    const wanted = [{ layer: layer!, rows, every }]
    const moments = (await inputMoments(momentsWalk(model, wanted, data, { reference: null }), wanted)).get(layer!)!
    assert.equal(moments.length, rows.groups)
    const session = await ortExecutor().load(model, { threads: 1 })
    const channels = rows.groups * rows.rows
    const [sum, squares] = [new Float64Array(channels), new Float64Array(channels)]
    let count = 0
    for (const feeds of batches) {
      const y = Object.values(await session.run(feeds))[0]!
      const inner = y.dims.slice(c.axis + 1).reduce((a, b) => a * b, 1)
      // of matrices the rows of all samples one after another, of others each axis by itself
      const places = c.op === 'MatMul' ? [y.size / channels] : y.dims.slice(2)
      let taken = 0
      for (const [k, v] of y.toFloat32().entries()) {
        let at = c.op === 'MatMul' ? Math.floor(k / channels) : k
        const isTaken = places.reduceRight((all, size, axis) => {
          const isHere = (at % size) % (every[axis] ?? 1) === 0
          at = Math.floor(at / size)
          return all && isHere
        }, true)
        if (!isTaken) continue
        taken++
        sum[Math.floor(k / inner) % channels]! += v
        squares[Math.floor(k / inner) % channels]! += v * v
      }
      count += taken / channels
    }
    await session.dispose()
    for (const [g, { gram, mean }] of moments.entries()) {
      const w = gatherRows(rows, g, layer!.tensor.toFloat32())
      const n = rows.columns
      for (let row = 0; row < rows.rows; row++) {
        let [first, second] = [0, 0]
        for (let k = 0; k < n; k++) {
          first += w[row * n + k]! * mean[k]!
          for (let j = 0; j < n; j++) second += w[row * n + k]! * w[row * n + j]! * gram[k * n + j]!
        }
        const channel = g * rows.rows + row
        assert.ok(Math.abs(first - sum[channel]! / count) < 1e-4, `mean of channel ${channel}`)
        assert.ok(Math.abs(second - squares[channel]! / count) < 1e-3, `square of channel ${channel}`)
      }
    }
  })
