/** Networks whose shapes only a run shows train like those that declare them. */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { Rng } from '../../src/base/rng.ts'
import { graphAttribute } from '../../src/graph/attribute.ts'
import type { Builder } from '../../src/graph/builder.ts'
import { Graph, type Value } from '../../src/graph/graph.ts'
import { Model } from '../../src/graph/model.ts'
import { Tensor } from '../../src/graph/tensor.ts'
import { elementTypes } from '../../src/graph/types.ts'
import { run, SIZE } from './fixtures.ts'

const int64 = { to: elementTypes.int64.code }

/** A convolution, `middle` on [N, 2, 8, 8], and a classifier of what it gives, `width` numbers an image. */
function network(width: number, middle: (b: Builder, x: Value, input: Value) => Value): Model {
  const model = new Model(new Graph('seen'))
  const rng = new Rng(3)
  const draw = (...dims: number[]): Tensor =>
    Tensor.float32(
      dims,
      Float32Array.from({ length: dims.reduce((p, d) => p * d, 1) }, () => rng.normal(0, 0.1)),
    )
  const input = model.graph.addInput('input', { elem: 'float32', dims: ['N', 1, SIZE, SIZE] })
  const b = model.graph.append()
  const conv = b.op('Conv', [input, b.initializer('w', draw(2, 1, 3, 3))], { pads: [1, 1, 1, 1] })
  const flat = b.op('Reshape', [middle(b, conv, input), b.ints([-1, width])])
  const type = { elem: 'float32', dims: ['N', 3] } as const
  model.graph.addOutput(b.op('MatMul', [flat, b.initializer('fc', draw(width, 3))], {}, { name: 'logits', type }))
  return model
}

/** 0 as an int64 vector of one, out of the data. */
const nothing = (b: Builder, x: Value): Value =>
  b.op('Reshape', [b.op('Cast', [b.op('ReduceMax', [b.op('Mul', [x, b.scalar(0)])])], int64), b.ints([1])])

/** One of two vectors by a condition on the data that always holds. */
function chosen(b: Builder, x: Value, values: readonly number[]): Value {
  const branch = (name: string, list: readonly number[]): Graph => {
    const graph = new Graph(name)
    const v = graph.append().op('Identity', [graph.addInitializer(`${name}.values`, Tensor.int64([list.length], list))])
    v.setType({ elem: 'int64', dims: [list.length] })
    graph.addOutput(v)
    return graph
  }
  const holds = b.op('Greater', [b.op('ReduceMax', [x], { keepdims: 0 }), b.scalar(-1e9)])
  const attributes = {
    then_branch: graphAttribute(branch('yes', values)),
    else_branch: graphAttribute(
      branch(
        'no',
        values.map((n) => n + 1),
      ),
    ),
  }
  return b.op('If', [holds], attributes)
}

const PLANE = 2 * SIZE * SIZE
const cases: Readonly<
  Record<string, readonly [number, (b: Builder, x: Value, i: Value) => Value, (b: Builder, x: Value) => Value]>
> = {
  'Reshape to a computed shape': [
    PLANE,
    (b, x, i) =>
      b.op('Relu', [
        b.op('Reshape', [
          x,
          b.op('Concat', [b.ints([-1]), b.op('Add', [nothing(b, i), b.ints([PLANE])])], { axis: 0 }),
        ]),
      ]),
    (b, x) => b.op('Relu', [b.op('Reshape', [x, b.ints([-1, PLANE])])]),
  ],
  'Slice to a computed end': [
    2 * 5 * SIZE,
    (b, x, i) =>
      b.op('Sigmoid', [b.op('Slice', [x, b.ints([0]), b.op('Add', [nothing(b, i), b.ints([5])]), b.ints([2])])]),
    (b, x) => b.op('Sigmoid', [b.op('Slice', [x, b.ints([0]), b.ints([5]), b.ints([2])])]),
  ],
  'Resize to the sizes that a branch gives': [
    2 * 12 * 12,
    (b, x, i) => b.op('Relu', [b.op('Resize', [x, null, null, chosen(b, i, [4, 2, 12, 12])], { mode: 'linear' })]),
    (b, x) => b.op('Relu', [b.op('Resize', [x, null, null, b.ints([4, 2, 12, 12])], { mode: 'linear' })]),
  ],
  'all positions of NonZero': [
    PLANE,
    (b, x, i) => {
      const all = b.op('NonZero', [
        b.op('Greater', [b.op('Abs', [b.op('Expand', [i, b.ints([1, 2, 1, 1])])]), b.scalar(-1)]),
      ])
      return b.op('Relu', [b.op('GatherND', [x, b.op('Transpose', [all], { perm: [1, 0] })])])
    },
    (b, x) => b.op('Relu', [x]),
  ],
}

for (const [name, [width, computed, plain]] of Object.entries(cases))
  test(`${name} trains`, async () => {
    const options = { batch: 4, maxSteps: 4, limit: 20 }
    const want = await run(network(width, plain), options)
    const got = await run(network(width, computed), options)
    assert.ok(want.losses.every(Number.isFinite))
    for (const [i, l] of want.losses.entries())
      assert.ok(Math.abs(got.losses[i]! - l) < 1e-5, `${got.losses}, ${want.losses}`)
    for (const w of ['w', 'fc']) {
      const [a, c] = [got, want].map((r) => r.model.graph.find(w)!.constant!.toFloat32())
      for (const [i, v] of c!.entries()) assert.ok(Math.abs(a![i]! - v) < 1e-5)
    }
  })

test('shapes that depend on the data are refused', async () => {
  const model = network(1, (b, x, i) => {
    const some = b.op('NonZero', [b.op('Greater', [b.op('Expand', [i, b.ints([1, 2, 1, 1])]), b.scalar(0)])])
    return b.op('Relu', [b.op('GatherND', [x, b.op('Transpose', [some], { perm: [1, 0] })])])
  })
  await assert.rejects(run(model, { batch: 4, maxSteps: 1, limit: 20 }), { name: 'MncError', blame: 'model' })
})
