/** Convolutions of each channel and what stands around them in mobile networks, in the blocked layout and the plain one. */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import type { Builder } from '../../src/graph/builder.ts'
import type { Value } from '../../src/graph/graph.ts'
import type { Model } from '../../src/graph/model.ts'
import { useBlockedLayout } from '../../src/lowerings/blocked/index.ts'
import { differentiate } from '../../src/passes/autodiff.ts'
import { inferTypes } from '../../src/runtime/isolated/infer-types.ts'
import { findBlock } from '../../src/runtime/ort/find-block.ts'
import { ortExecutor } from '../../src/runtime/ort/ort.ts'
import { agreeModel, graphOf } from '../support/both-layouts.ts'

/** The graph with the gradients of everything, for a gradient of the output that is an input of its own. */
async function withGradients(
  inputs: Readonly<Record<string, readonly number[]>>,
  build: (b: Builder, v: Readonly<Record<string, Value>>) => Value,
): Promise<Model> {
  const { model, given } = graphOf(inputs)
  const { graph } = model
  const y = build(graph.append(), given)
  graph.addOutput(y)
  await inferTypes(model)
  const dy = graph.addInput('dy', y.type!)
  const gradients = differentiate(model, new Map([[y, dy]]), Object.values(given))
  for (const v of gradients.values()) graph.addOutput(v)
  await inferTypes(model)
  return model
}

/** Operators that are left outside of the engine's own domain. */
function leftPlain(model: Model, block: number): string[] {
  useBlockedLayout(model, block)
  const costly = ['Conv', 'ConvTranspose', 'MatMul', 'Pad', 'Slice']
  return [...model.graph.nodes()]
    .filter((n) => n.domain === '' && costly.includes(n.op) && n.input(0).type?.dims?.length === 4)
    .map((n) => n.op)
}

const cases = [
  { name: '3x3', c: 16, size: [6, 5], kernel: [3, 3], attributes: { pads: [1, 1, 1, 1] } },
  { name: 'open channels, no fours', c: 18, size: [5, 6], kernel: [3, 3], attributes: { pads: [1, 1, 1, 1] } },
  { name: 'less than a block', c: 8, size: [7, 7], kernel: [5, 5], attributes: { pads: [2, 2, 2, 2] } },
  { name: 'stride 2', c: 20, size: [8, 6], kernel: [3, 3], attributes: { pads: [1, 1, 1, 1], strides: [2, 2] } },
  { name: 'stride 2, 5x5', c: 40, size: [8, 8], kernel: [5, 5], attributes: { pads: [2, 2, 2, 2], strides: [2, 2] } },
  {
    name: 'stride 3, uneven pads',
    c: 16,
    size: [9, 6],
    kernel: [3, 4],
    attributes: { pads: [1, 2, 0, 0], strides: [3, 3] },
  },
  { name: 'a kernel that leaves rows out', c: 16, size: [6, 6], kernel: [1, 1], attributes: { strides: [2, 2] } },
  { name: 'dilation', c: 24, size: [8, 9], kernel: [3, 3], attributes: { dilations: [2, 2] } },
  { name: 'stride 2 of an odd image', c: 16, size: [7, 7], kernel: [3, 3], attributes: { strides: [2, 2] }, plain: 1 },
  { name: 'an even kernel', c: 16, size: [6, 6], kernel: [2, 2], attributes: { strides: [2, 2] } },
]

for (const { name, c, size, kernel, attributes, plain = 0 } of cases)
  test(`a convolution of each channel and its gradients: ${name}`, async (t) => {
    const block = await findBlock((m) => ortExecutor().load(m))
    if (block === 0) return t.skip('this processor has no blocked kernels')
    const model = await withGradients({ x: [3, c, ...size], w: [c, 1, ...kernel], b: [c] }, (b, v) =>
      b.op('Conv', [v.x!, v.w!, v.b!], { ...attributes, group: c, kernel_shape: kernel }, { name: 'y' }),
    )
    await agreeModel(model)
    assert.equal(leftPlain(model, block).filter((op) => op !== 'Slice').length, plain)
  })

for (const c of [16, 20, 50])
  test(`a gated block of ${c} channels and its gradients`, async (t) => {
    const block = await findBlock((m) => ortExecutor().load(m))
    if (block === 0) return t.skip('this processor has no blocked kernels')
    const inputs = {
      ...{ x: [4, 16, 6, 6], wide: [c, 16, 1, 1], depth: [c, 1, 3, 3], squeeze: [4, c, 1, 1], open: [c, 4, 1, 1] },
      ...{ narrow: [16, c, 1, 1], s: [c], t: [c], first: [16, 16, 3, 3] },
    }
    const model = await withGradients(inputs, (b, v) => {
      const x = b.op('Conv', [v.x!, v.first!], { pads: [1, 1, 1, 1] })
      const wide = b.op('Conv', [x, v.wide!])
      const [mean, spread] = [b.scalar(0), b.scalar(1)].map((n) => b.op('Expand', [n, b.ints([c])]))
      const normal = b.op('BatchNormalization', [wide, v.s!, v.t!, mean!, spread!])
      const gate = b.op('Div', [
        b.op('Clip', [b.op('Add', [normal, b.scalar(3)]), b.scalar(0), b.scalar(6)]),
        b.scalar(6),
      ])
      const depth = b.op('Conv', [b.op('Mul', [normal, gate]), v.depth!], { group: c, pads: [1, 1, 1, 1] })
      const pooled = b.op('GlobalAveragePool', [depth])
      const squeezed = b.op('Relu', [b.op('Conv', [pooled, v.squeeze!])])
      const excited = b.op('Mul', [depth, b.op('Sigmoid', [b.op('Conv', [squeezed, v.open!])])])
      const shifted = b.op('Add', [excited, b.op('Tanh', [pooled])])
      return b.op('Add', [b.op('Conv', [b.op('Sub', [shifted, pooled]), v.narrow!]), x], {}, { name: 'y' })
    })
    await agreeModel(model, 0.01)
  })
