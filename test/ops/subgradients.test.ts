/** Gradients where the function has a kink or a formula divides by zero: what the definitions promise there. */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { type AttributeLike, float } from '../../src/graph/attribute.ts'
import { Graph } from '../../src/graph/graph.ts'
import { Model } from '../../src/graph/model.ts'
import { Tensor } from '../../src/graph/tensor.ts'
import { differentiate } from '../../src/passes/autodiff.ts'
import { inferTypes } from '../../src/runtime/isolated/infer-types.ts'
import { ortExecutor } from '../../src/runtime/ort/ort.ts'

interface Case {
  readonly op: string
  readonly inputs: readonly (readonly number[])[]
  readonly attributes?: Readonly<Record<string, AttributeLike>>
  /** Gradients of the sum of the outputs. */
  readonly want: readonly (readonly number[])[]
}

const cases: readonly Case[] = [
  { op: 'Relu', inputs: [[-1, 0, 2]], want: [[0, 0, 1]] },
  { op: 'Abs', inputs: [[-1, 0, 2]], want: [[-1, 0, 1]] },
  {
    op: 'Clip',
    inputs: [[0, 1, 3, 4], [1], [3]],
    want: [[0, 1, 1, 0], [1], [1]],
  },
  {
    op: 'Max',
    inputs: [
      [1, 2],
      [1, 3],
    ],
    want: [
      [1, 0],
      [0, 1],
    ],
  },
  { op: 'Min', inputs: [[1], [1], [1]], want: [[1], [0], [0]] },
  { op: 'ReduceMax', inputs: [[5, 5, 1, 5]], want: [[1 / 3, 1 / 3, 0, 1 / 3]] },
  { op: 'ReduceProd', inputs: [[2, 0, 3]], want: [[0, 6, 0]] },
  { op: 'ReduceProd', inputs: [[2, 0, 0]], want: [[0, 0, 0]] },
  { op: 'ReduceL2', inputs: [[0, 0]], want: [[0, 0]] },
  { op: 'ReduceL1', inputs: [[0, -2]], want: [[0, -1]] },
  {
    op: 'Pow',
    inputs: [
      [0, 0],
      [0, 2],
    ],
    want: [
      [0, 0],
      [0, 0],
    ],
  },
  { op: 'HardSigmoid', inputs: [[-1, 0, 1]], attributes: { alpha: float(0.5), beta: float(0.5) }, want: [[0, 0.5, 0]] },
  { op: 'HardSwish', inputs: [[-1e30, -3, 0, 1.5, 3, 4, 1e30]], want: [[0, 0, 0.5, 1, 1, 1, 1]] },
]

for (const { op, inputs, attributes, want } of cases)
  test(`${op} of ${JSON.stringify(inputs)}`, async () => {
    const model = new Model(new Graph('g'))
    const { graph } = model
    const scalar = (i: number): boolean => op === 'Clip' && i > 0
    const dimsOf = (i: number): number[] => (scalar(i) ? [] : [inputs[i]!.length])
    const xs = inputs.map((_, i) => graph.addInput(`x${i}`, { elem: 'float32', dims: dimsOf(i) }))
    const y = graph.append().op(op, xs, attributes)
    graph.addOutput(y)
    await inferTypes(model)
    const dy = graph.addInitializer(
      'dy',
      Tensor.float32(y.dims, new Float32Array(y.dims.reduce((a, d) => a * d, 1)).fill(1)),
    )
    const found = differentiate(model, new Map([[y, dy]]), xs)
    const gradients = xs.map((x) => graph.append().op('Identity', [found.get(x)!]))
    for (const g of gradients) graph.addOutput(g)
    const session = await ortExecutor().load(model)
    const out = await session.run(Object.fromEntries(inputs.map((v, i) => [`x${i}`, Tensor.float32(dimsOf(i), v)])))
    await session.dispose()
    gradients.forEach((g, i) => {
      const got = out[g.name]!.toFloat32()
      want[i]!.forEach((w, k) => {
        assert.ok(Math.abs(got[k]! - w) < 1e-6, `input ${i}: ${[...got]} instead of ${want[i]}`)
      })
    })
  })
