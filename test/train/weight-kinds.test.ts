/**
 * LSTM, GRU, RNN, MatMul and Gather weights under masks and quantisers train as those of convolutions do: masked weights
 * stay zero, scales are fitted or learned, the first loss is that of the graph as it is, and the result is still pruned,
 * quantised and exportable.
 */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { effectiveLayers } from '../../src/analysis/layers.ts'
import { Rng } from '../../src/base/rng.ts'
import { exportModel } from '../../src/export/export-model.ts'
import type { Value } from '../../src/graph/graph.ts'
import { Model } from '../../src/graph/model.ts'
import { Tensor } from '../../src/graph/tensor.ts'
import { weightLayers } from '../../src/layers/layers.ts'
import { runPass as pass } from '../../src/passes/run-pass.ts'
import { ortExecutor } from '../../src/runtime/ort/ort.ts'
import { CLASSES, run, SIZE } from './fixtures.ts'

const H = 12

/** Rows of the image, one after the other, through the layer, then a classifier on the last. */
function rowNet(op: string): Model {
  const model = new Model()
  const { graph } = model
  const b = graph.append()
  const rng = new Rng(op.length)
  const weight = (name: string, dims: readonly number[]): Value => {
    const values = Float32Array.from({ length: dims.reduce((a, d) => a * d, 1) }, () => rng.normal(0, 0.4))
    return b.initializer(name, Tensor.float32(dims, values))
  }
  const image = graph.addInput('input', { elem: 'float32', dims: ['N', 1, SIZE, SIZE] })
  const rows = b.op('Transpose', [b.op('Squeeze', [image, b.ints([1])])], { perm: [1, 0, 2] })
  const gates = { LSTM: 4, GRU: 3, RNN: 1 }[op]
  let last: Value
  if (gates) {
    const operands = [rows, weight('w', [1, gates * H, SIZE]), weight('r', [1, gates * H, H])]
    const [, state] = b.ops(op, operands, 2, { hidden_size: H }, { name: 'layer' })
    last = b.op('Squeeze', [state!, b.ints([0])])
  } else {
    const table = op === 'Gather'
    const made = table
      ? b.op('Add', [
          b.op('MatMul', [rows, weight('first.w', [SIZE, H])], {}, { name: 'first' }),
          b.op('Unsqueeze', [
            b.op('Gather', [weight('w', [20, H]), b.ints([3, 1, 4, 1, 5, 9, 2, 6])], {}, { name: 'layer' }),
            b.ints([1]),
          ]),
        ])
      : b.op('MatMul', [rows, weight('w', [SIZE, H])], {}, { name: 'layer' })
    last = b.op('ReduceMean', [b.op('Tanh', [made]), b.ints([0])], { keepdims: 0 })
  }
  const type = { elem: 'float32', dims: ['N', CLASSES] } as const
  const logits = b.op('Gemm', [last, weight('fc.w', [H, CLASSES])], {}, { name: 'logits', type })
  graph.addOutput(logits)
  return model
}

const maskOf = (model: Model): Float32Array[] =>
  weightLayers(model.graph).flatMap((l) => l.mask?.constant?.toFloat32() ?? [])

for (const op of ['LSTM', 'GRU', 'RNN', 'MatMul', 'Gather'])
  for (const scales of ['refit', 'learn'] as const)
    test(`${op}, pruned and quantised to 4 bits, scales ${scales}`, async () => {
      const model = rowNet(op)
      await pass(model, 'prune', { ops: [op], sparsity: 0.5 })
      await pass(model, 'quantize', { ops: [op], activationBits: 0, firstLayer: 'quantize' })
      const before = maskOf(model)
      assert.equal(before.length, op === 'MatMul' || op === 'Gather' ? 1 : 2)
      const { model: trained, losses } = await run(model, { epochs: 10, optimizer: 'adamw', lr: 0.02, scales })
      assert.ok(losses.at(-1)! < 0.85 * losses[0]!, `${losses[0]} -> ${losses.at(-1)}`)
      assert.deepEqual(maskOf(trained), before)
      const layers = (await effectiveLayers(trained)).filter((l) => l.node.op === op)
      assert.deepEqual(
        layers.map((l) => [l.weightBits, l.valueBits]),
        layers.map(() => [4, 4]),
      )
      for (const [i, l] of layers.entries()) {
        const values = l.values.toFloat32()
        before[i]!.forEach((m, k) => {
          if (m === 0) assert.equal(values[k], 0)
        })
        assert.notDeepEqual(values, (await effectiveLayers(model)).find((x) => x.name === l.name)!.values.toFloat32())
      }
      await sameAsExported(trained)
    })

async function sameAsExported(model: Model): Promise<void> {
  const rng = new Rng(9)
  const pixels = Float32Array.from({ length: 2 * SIZE * SIZE }, () => rng.normal())
  const input = Tensor.float32([2, 1, SIZE, SIZE], pixels)
  const outputs = async (m: Model, optimization: 'disabled' | 'all'): Promise<Float32Array> => {
    const session = await ortExecutor().load(m, { optimization })
    const [y] = Object.values(await session.run({ input }))
    await session.dispose()
    return y!.toFloat32()
  }
  const want = await outputs(model, 'disabled')
  for (const format of ['packed', 'int4', 'int8'] as const)
    for (const level of ['disabled', 'all'] as const) {
      const got = await outputs((await exportModel(model, { format })).model, level)
      got.forEach((v, i) => {
        assert.ok(Math.abs(v - want[i]!) < 1e-4, `${format}, ${level}: ${v}, not ${want[i]}`)
      })
    }
}
