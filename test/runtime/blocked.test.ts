import assert from 'node:assert/strict'
import { test } from 'node:test'
import { Rng } from '../../src/base/rng.ts'
import type { Builder } from '../../src/graph/builder.ts'
import { cloneModel } from '../../src/graph/clone.ts'
import type { Value } from '../../src/graph/graph.ts'
import { weightGradientOf } from '../../src/graph/hints.ts'
import { Model } from '../../src/graph/model.ts'
import { Tensor } from '../../src/graph/tensor.ts'
import { useBlockedLayout } from '../../src/lowerings/blocked/index.ts'
import { convWeightGradient } from '../../src/ops/support/conv-weight-gradient.ts'
import { inferTypes } from '../../src/runtime/isolated/infer-types.ts'
import { findBlock } from '../../src/runtime/ort/find-block.ts'
import { ortExecutor } from '../../src/runtime/ort/ort.ts'
import { agree } from '../support/both-layouts.ts'

const cases = [
  { name: '12 from 48', x: [2, 48, 6, 5], w: [12, 48, 3, 3], attributes: { pads: [1, 1, 1, 1] } },
  { name: '48 from 12', x: [2, 12, 6, 5], w: [48, 12, 3, 3], attributes: { pads: [1, 1, 1, 1] } },
  { name: 'stride 2, 5x5', x: [1, 16, 9, 9], w: [20, 16, 5, 5], attributes: { strides: [2, 2], pads: [2, 2, 2, 2] } },
  { name: 'of an image', x: [2, 3, 8, 7], w: [16, 3, 3, 3], attributes: { pads: [1, 1, 1, 1] } },
  { name: 'dilation', x: [1, 8, 9, 9], w: [8, 8, 3, 3], attributes: { dilations: [2, 2] } },
]

for (const { name, x, w, attributes } of cases)
  test(`a blocked convolution equals the plain one: ${name}`, async (t) => {
    const block = await findBlock((m) => ortExecutor().load(m))
    if (block === 0) return t.skip('this processor has no blocked kernels')
    const model = new Model()
    const { graph } = model
    const inputs = (['x', 'w', 'b'] as const).map((n) =>
      graph.addInput(n, { elem: 'float32', dims: n === 'x' ? x : n === 'w' ? w : [w[0]!] }),
    )
    graph.addOutput(graph.append().op('Conv', inputs, attributes, { name: 'y' }))
    await inferTypes(model)
    const blocked = cloneModel(model)
    assert.equal(useBlockedLayout(blocked, block), 1)
    const rng = new Rng(1)
    const feeds = Object.fromEntries(
      graph.inputs.map((v) => {
        const size = v.dims.reduce((p, d) => p * d, 1)
        return [
          v.name,
          Tensor.float32(
            v.dims,
            Float32Array.from({ length: size }, () => rng.normal()),
          ),
        ]
      }),
    )
    const [a, b] = await Promise.all(
      [model, blocked].map(async (m) => (await (await ortExecutor().load(m)).run(feeds)).y!.view('float32')),
    )
    assert.equal(a!.length, b!.length)
    a!.forEach((v, i) => {
      assert.ok(Math.abs(v - b![i]!) < 1e-4 * (1 + Math.abs(v)), `element ${i}: ${v} and ${b![i]}`)
    })
  })

test('leaves 1x1, grouped, constant-weight and oddly wide convolutions alone', async () => {
  const model = new Model()
  const { graph } = model
  const x = graph.addInput('x', { elem: 'float32', dims: [1, 16, 4, 4] })
  const point = graph.addInput('point', { elem: 'float32', dims: [16, 16, 1, 1] })
  const pairs = graph.addInput('pairs', { elem: 'float32', dims: [16, 2, 3, 3] })
  const odd = graph.addInput('odd', { elem: 'float32', dims: [1, 10, 4, 4] }) // channels in no fours
  const few = graph.addInput('few', { elem: 'float32', dims: [16, 10, 3, 3] })
  const fixed = graph.addInitializer('fixed', Tensor.float32([16, 16, 3, 3], new Float32Array(2304)))
  const b = graph.append()
  graph.addOutput(b.op('Conv', [x, point]))
  graph.addOutput(b.op('Conv', [x, pairs], { group: 8 }))
  graph.addOutput(b.op('Conv', [x, fixed]))
  graph.addOutput(b.op('Conv', [odd, few]))
  assert.equal(useBlockedLayout(model, 16), 0)
})

const W = [16, 16, 3, 3]
const same = { pads: [1, 1, 1, 1] }
const outer = (b: Builder, x: Value, w: Value): Value => b.op('Conv', [x, w], same)

test('what has a blocked form keeps its meaning in the rarer forms of its operator', async () => {
  const x = [2, 16, 6, 6]
  // a kernel turned along a negative axis
  await agree({ x, w: W }, (b, v) => {
    const turned = b.op('Slice', [v.w!, b.ints([-1]), b.ints([-(2 ** 31)]), b.ints([-2]), b.ints([-1])])
    return [outer(b, v.x!, turned)]
  })
  // output_shape decides the pads of a transposed convolution
  await agree({ x, w: W, u: W }, (b, v) => {
    const attributes = { strides: [2, 2], output_shape: [12, 12], kernel_shape: [3, 3] }
    return [b.op('ConvTranspose', [outer(b, v.x!, v.w!), v.u!], attributes)]
  })
  // a sum over no axes that is none
  await agree({ x, w: W }, (b, v) => {
    const y = outer(b, v.x!, v.w!)
    return [b.op('ReduceSum', [y], { noop_with_empty_axes: 1 }), b.op('ReduceSum', [y], { keepdims: 0 })]
  })
  // an output that a Relu reads too
  await agree({ x, w: W }, (b, v) => {
    const y = outer(b, v.x!, v.w!)
    return [y, b.op('Relu', [y])]
  })
  // one value that is a kernel here and an image there
  await agree({ x: [1, 16, 5, 5], w: W, u: W }, (b, v) => [outer(b, v.x!, v.w!), outer(b, v.w!, v.u!)])
  // a value with the name of a helper
  await agree({ x, w: W, zero: [16, 20, 3, 3] }, (b, v) => [
    b.op('ConvTranspose', [outer(b, v.x!, v.w!), b.op('Slice', [v.zero!, b.ints([0]), b.ints([16]), b.ints([1])])], {
      ...{ strides: [2, 2], output_padding: [1, 1], kernel_shape: [3, 3] },
      ...same,
    }),
  ])
  // one number and one a channel, masks, a kernel that is not a multiple of the block
  await agree({ x, w: W, c: [16, 1, 1], k: [20, 16, 1, 1] }, (b, v) => {
    const y = outer(b, v.x!, v.w!)
    const mask = b.op('Cast', [b.op('Less', [y, b.op('Mul', [y, b.scalar(2)])])], { to: 1 })
    const z = b.op('Add', [b.op('Mul', [b.op('Sub', [y, v.c!]), mask]), b.op('Max', [y, b.scalar(0.1)])])
    return [z, b.op('Conv', [z, v.k!]), b.op('ReduceSum', [z, b.ints([0, 2, 3])], { keepdims: 0 })]
  })
})

const gradients = [
  { name: '3x3', n: 4, i: 16, o: 32, size: [5, 16], kernel: [3, 3], pads: [1, 1, 1, 1], applies: true },
  { name: '5x5, two blocks', n: 2, i: 32, o: 16, size: [6, 32], kernel: [5, 5], pads: [2, 2, 2, 2], applies: true },
  { name: '1x3', n: 3, i: 16, o: 16, size: [4, 16], kernel: [1, 3], pads: [0, 1, 0, 1], applies: true },
  { name: 'rows not padded', n: 2, i: 16, o: 16, size: [6, 16], kernel: [3, 3], pads: [0, 1, 0, 1], applies: true },
  { name: 'uneven pads', n: 2, i: 16, o: 16, size: [6, 16], kernel: [3, 3], pads: [2, 2, 0, 0], applies: true },
  { name: 'shared kernels', n: 64, i: 64, o: 64, size: [2, 16], kernel: [3, 3], pads: [1, 1, 1, 1], applies: true },
  { name: 'other widths', n: 2, i: 16, o: 16, size: [5, 16], kernel: [3, 3], pads: [1, 0, 1, 0], applies: false },
  { name: 'part of a block', n: 2, i: 16, o: 16, size: [5, 12], kernel: [3, 3], pads: [1, 1, 1, 1], applies: false },
]

for (const { name, n, i, o, size, kernel, pads, applies } of gradients)
  test(`a weight gradient on blocked values equals the plain one: ${name}`, async (t) => {
    const block = await findBlock((m) => ortExecutor().load(m))
    if (block === 0) return t.skip('this processor has no blocked kernels')
    const [begin, end] = [pads.slice(0, 2), pads.slice(2)]
    const outSize = size.map((s, d) => s + begin[d]! + end[d]! - kernel[d]! + 1)
    const geometry = { stride: [1, 1], dilation: [1, 1], kernel, begin, end, group: 1, n, cin: i, cout: o }
    const inputs = { x: [n, i, ...size], y: [n, o, ...outSize], u: [i, i, 3, 3], v: [o, o, 3, 3] }
    const gradient = (b: Builder, v: Readonly<Record<string, Value>>): Value => {
      const [x, dy] = [outer(b, v.x!, v.u!), outer(b, v.y!, v.v!)]
      x.setType({ elem: 'float32', dims: inputs.x })
      dy.setType({ elem: 'float32', dims: inputs.y })
      return convWeightGradient(x, dy, { ...geometry, inSize: size, outSize }, b)
    }
    await agree(inputs, (b, v) => [gradient(b, v)], 0.02)
    const model = new Model()
    const given = Object.entries(inputs).map(([name, dims]) => [
      name,
      model.graph.addInput(name, { elem: 'float32', dims }),
    ])
    model.graph.addOutput(gradient(model.graph.append(), Object.fromEntries(given)))
    await inferTypes(model)
    useBlockedLayout(model, block)
    const products = [...model.graph.nodes()].filter((node) => node.op === 'MatMul')
    assert.equal(products.length, applies && size[1]! % block === 0 ? 0 : 1)
  })

test('a weight gradient whose operand is another by now is left alone', async () => {
  const model = new Model()
  const { graph } = model
  const [x, y] = ['x', 'y'].map((name) => graph.addInput(name, { elem: 'float32', dims: [1, 16, 4, 16] }))
  const w = graph.addInput('w', { elem: 'float32', dims: W })
  const b = graph.append()
  const made = [outer(b, x!, w), outer(b, y!, w)] as const
  for (const v of made) v.setType({ elem: 'float32', dims: [1, 16, 4, 16] })
  const size = { inSize: [4, 16], outSize: [4, 16], begin: [1, 1], end: [1, 1], n: 1, cin: 16, cout: 16 }
  graph.addOutput(
    convWeightGradient(made[0], made[1], { ...size, kernel: [3, 3], stride: [1, 1], dilation: [1, 1], group: 1 }, b),
  )
  const marked = [...graph.nodes()].find((n) => weightGradientOf(n) !== null)!
  assert.equal(weightGradientOf(marked)?.x, made[0])
  graph.replaceUses(made[0], b.op('Abs', [made[0]], {}, { type: made[0].type }))
  assert.equal(weightGradientOf(marked), null)
})
