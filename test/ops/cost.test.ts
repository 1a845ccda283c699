/** Elementary operations by the counting rules of the MicroNet score. */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import type { AttributeLike } from '../../src/graph/attribute.ts'
import { Graph } from '../../src/graph/graph.ts'
import { Model } from '../../src/graph/model.ts'
import { Tensor } from '../../src/graph/tensor.ts'
import { requireOp } from '../../src/ops/index.ts'
import type { Cost } from '../../src/ops/support/define-op.ts'
import { inferTypes } from '../../src/runtime/isolated/infer-types.ts'

const HW = 6
const [C, N] = [5, 5 * HW]

const cases: readonly (readonly [
  op: string,
  others: readonly Tensor[],
  attributes: Record<string, AttributeLike>,
  Partial<Cost>,
])[] = [
  ['Relu', [], {}, { comparisons: N }],
  ['Sigmoid', [], {}, { mults: 2 * N, adds: N }],
  ['Exp', [], {}, { mults: N }],
  ['Add', [Tensor.scalar(1)], {}, { adds: N }],
  ['Mul', [Tensor.scalar(2)], {}, { mults: N }],
  ['Clip', [Tensor.scalar(0), Tensor.scalar(6)], {}, { comparisons: 2 * N }],
  ['Cast', [], { to: 11 }, {}],
  ['QuantizeLinear', [Tensor.scalar(0.1), Tensor.scalar(0, 'uint8')], {}, {}],
  // a global average is (HW - 1) C additions and C multiplications
  ['ReduceMean', [Tensor.int64([2], [2, 3])], {}, { adds: (HW - 1) * C, mults: C }],
  ['ReduceMax', [Tensor.int64([1], [1])], {}, { comparisons: (C - 1) * HW }],
  // an exponential and a division each, and C - 1 additions a position
  ['Softmax', [], { axis: 1 }, { mults: 2 * N, adds: (C - 1) * HW }],
]

for (const [op, others, attributes, want] of cases)
  test(op, async () => {
    const model = new Model(new Graph('g'))
    const { graph } = model
    const x = graph.addInput('x', { elem: 'float32', dims: [1, C, 2, 3] })
    const inputs = [x, ...others.map((t, i) => graph.addInitializer(`c${i}`, t))]
    const y = graph.append().op(op, inputs, attributes)
    graph.addOutput(y)
    await inferTypes(model)
    const node = y.producer!
    assert.deepEqual(requireOp(node).cost(node), { macs: 0, mults: 0, adds: 0, comparisons: 0, ...want })
  })
