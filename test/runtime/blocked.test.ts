import assert from 'node:assert/strict'
import { test } from 'node:test'
import { cloneModel } from '../../src/graph/clone.ts'
import { Model } from '../../src/graph/model.ts'
import { Tensor } from '../../src/graph/tensor.ts'
import { Rng } from '../../src/rng.ts'
import { findBlock } from '../../src/runtime/blocked/find-block.ts'
import { useBlockedLayout } from '../../src/runtime/blocked/index.ts'
import { inferTypes } from '../../src/runtime/infer-types.ts'
import { ortExecutor } from '../../src/runtime/ort.ts'

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
  const depth = graph.addInput('depth', { elem: 'float32', dims: [16, 1, 3, 3] })
  const odd = graph.addInput('odd', { elem: 'float32', dims: [1, 10, 4, 4] }) // channels in no fours
  const few = graph.addInput('few', { elem: 'float32', dims: [16, 10, 3, 3] })
  const fixed = graph.addInitializer('fixed', Tensor.float32([16, 16, 3, 3], new Float32Array(2304)))
  const b = graph.append()
  graph.addOutput(b.op('Conv', [x, point]))
  graph.addOutput(b.op('Conv', [x, depth], { group: 16 }))
  graph.addOutput(b.op('Conv', [x, fixed]))
  graph.addOutput(b.op('Conv', [odd, few]))
  assert.equal(useBlockedLayout(model, 16), 0)
})
