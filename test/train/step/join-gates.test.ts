/** h-swish in the parts that exporters write: one operator in the step, with the same values and gradients. */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import type { Builder } from '../../../src/graph/builder.ts'
import type { Value } from '../../../src/graph/graph.ts'
import { Model } from '../../../src/graph/model.ts'
import { Tensor } from '../../../src/graph/tensor.ts'
import { differentiate } from '../../../src/passes/autodiff.ts'
import { inferTypes } from '../../../src/runtime/isolated/infer-types.ts'
import { ortExecutor } from '../../../src/runtime/ort/ort.ts'
import { joinGates } from '../../../src/train/step/join-gates.ts'

type Form = (b: Builder, x: Value) => Value

const clipped = (b: Builder, x: Value, most: number): Value => b.op('Clip', [x, b.scalar(0), b.scalar(most)])
const shifted = (b: Builder, x: Value): Value => b.op('Add', [x, b.scalar(3)])

const joined: Readonly<Record<string, Form>> = {
  'x clip(x + 3, 0, 6) / 6': (b, x) => b.op('Div', [b.op('Mul', [x, clipped(b, shifted(b, x), 6)]), b.scalar(6)]),
  'clip(3 + x, 0, 6) x (1/6)': (b, x) =>
    b.op('Mul', [b.scalar(1 / 6), b.op('Mul', [clipped(b, b.op('Add', [b.scalar(3), x]), 6), x])]),
  'x (clip(x + 3, 0, 6) / 6)': (b, x) => b.op('Mul', [x, b.op('Div', [clipped(b, shifted(b, x), 6), b.scalar(6)])]),
  'x clip((x + 3) / 6, 0, 1)': (b, x) => b.op('Mul', [x, clipped(b, b.op('Div', [shifted(b, x), b.scalar(6)]), 1)]),
  'x hardsigmoid(x)': (b, x) => b.op('Mul', [x, b.op('HardSigmoid', [x], { alpha: 1 / 6, beta: 0.5 })]),
}

const left: Readonly<Record<string, Form>> = {
  'another slope': (b, x) => b.op('Mul', [x, b.op('HardSigmoid', [x], { alpha: 0.2, beta: 0.5 })]),
  'another height': (b, x) => b.op('Mul', [x, clipped(b, shifted(b, x), 6)]),
  'of another value': (b, x) => b.op('Mul', [b.op('Neg', [x]), b.op('HardSigmoid', [x], { alpha: 1 / 6, beta: 0.5 })]),
  'inner value read elsewhere': (b, x) => {
    const gate = b.op('HardSigmoid', [x], { alpha: 1 / 6, beta: 0.5 })
    return b.op('Add', [b.op('Mul', [x, gate]), gate])
  },
}

/** What the form gives of x, and the gradient of the sum of it. */
async function run(form: Form, join: boolean) {
  const model = new Model()
  const { graph } = model
  const x = graph.addInput('x', { elem: 'float32', dims: [41] })
  const y = graph.append().op('Abs', [form(graph.append(), x)])
  graph.addOutput(y)
  await inferTypes(model)
  if (join) joinGates(graph)
  const swishes = [...graph.nodes()].filter((n) => n.is('HardSwish')).length
  graph.removeOutput(y)
  const sum = graph.append().op('ReduceSum', [y], { keepdims: 0 })
  graph.addOutput(sum)
  await inferTypes(model)
  const one = graph.addInitializer('one', Tensor.scalar(1))
  const dx = differentiate(model, new Map([[sum, one]]), [x]).get(x)
  graph.addOutput(y)
  graph.addOutput(dx!)
  const session = await ortExecutor().load(model)
  // not at the kinks: there the parts take a side that depends on their rounding
  const values = Float32Array.from({ length: 41 }, (_, i) => (i - 20) / 4 + 0.03)
  const out = await session.run({ x: Tensor.float32([41], values) })
  await session.dispose()
  return { swishes, values: [...out[y.name]!.toFloat32()], gradient: [...out[dx!.name]!.toFloat32()] }
}

for (const [name, form] of Object.entries(joined))
  test(`${name} is one HardSwish`, async () => {
    const [parts, one] = [await run(form, false), await run(form, true)]
    assert.deepEqual([parts.swishes, one.swishes], [0, 1])
    for (const kind of ['values', 'gradient'] as const)
      for (const [i, v] of parts[kind].entries()) assert.ok(Math.abs(v - one[kind][i]!) < 2e-6, `${kind} ${i}: ${v}`)
  })

for (const [name, form] of Object.entries(left))
  test(`no h-swish: ${name}`, async () => {
    assert.equal((await run(form, true)).swishes, 0)
  })
