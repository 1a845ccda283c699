/** Lowerings for providers compute what the node did, even where no such provider is available. */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { Rng } from '../../src/base/rng.ts'
import { cloneModel } from '../../src/graph/clone.ts'
import { Graph, type Value } from '../../src/graph/graph.ts'
import { Model } from '../../src/graph/model.ts'
import { Tensor } from '../../src/graph/tensor.ts'
import { verifyModel } from '../../src/graph/verify.ts'
import { lowerings } from '../../src/lowerings/provider-lowerings.ts'
import { inferTypes } from '../../src/runtime/isolated/infer-types.ts'
import { ortExecutor } from '../../src/runtime/ort/ort.ts'

type Attributes = Readonly<Record<string, number | string | readonly number[]>>

const copyOf = (t: Tensor): Tensor => Tensor.float32(t.dims, t.toFloat32().slice())

/** A graph of one node with `count` outputs on random inputs, and what it computes. */
async function agree(
  op: string,
  dims: readonly (readonly number[])[],
  attributes: Attributes,
  count = 1,
): Promise<void> {
  const model = new Model(new Graph('one'), 21)
  const rng = new Rng(4)
  const feeds: Record<string, Tensor> = {}
  const inputs = dims.map((d, i): Value => {
    const size = d.reduce((a, b) => a * b, 1)
    // ties, so that the first of equal elements counts
    feeds[`x${i}`] = Tensor.float32(
      d,
      Float32Array.from({ length: size }, () => Math.round(rng.uniform(0, 20)) / 4),
    )
    return model.graph.addInput(`x${i}`, { elem: 'float32', dims: d })
  })
  const b = model.graph.append()
  if (op === 'Split') inputs.push(b.ints(Array.from({ length: count }, (_, i) => (i % 3) + 1)))
  for (const v of b.ops(op, inputs, count, attributes)) model.graph.addOutput(b.op('Cast', [v], { to: 1 }))
  await inferTypes(model)
  const lowered = cloneModel(model)
  const node = [...lowered.graph.nodes()].find((n) => n.op === op)!
  assert.equal(lowerings[op]!(node), true)
  lowered.graph.sort()
  verifyModel(lowered)
  const run = async (m: Model): Promise<Tensor[]> => {
    const session = await ortExecutor().load(m, { optimization: 'disabled' })
    // copies: onnxruntime's BatchNormalization writes to its inputs
    const out = await session.run(Object.fromEntries(Object.entries(feeds).map(([k, t]) => [k, copyOf(t)])))
    await session.dispose()
    return session.outputNames.map((name) => out[name]!)
  }
  const [want, have] = [await run(model), await run(lowered)]
  want.forEach((w, i) => {
    assert.deepEqual(have[i]!.dims, w.dims)
    const got = have[i]!.toNumbers()
    for (const [k, v] of Array.from(w.toNumbers()).entries())
      assert.ok(Math.abs(got[k]! - v) < 1e-4, `${op} [${k}]: ${got[k]} and not ${v}`)
  })
}

const image = [2, 3, 7, 6]
const pool = { kernel_shape: [3, 2], strides: [2, 2] }

test('BatchNormalization in training form', () =>
  agree('BatchNormalization', [image, [3], [3], [3], [3]], { training_mode: 1, momentum: 0.75 }, 3))
test('MaxPool in float16 is padded in float16', async () => {
  const model = new Model(new Graph('half'), 21)
  const { graph } = model
  const b = graph.append()
  const x = b.op('Cast', [graph.addInput('x', { elem: 'float32', dims: [1, 2, 5, 5] })], { to: 10 })
  const attributes = { kernel_shape: [3, 3], strides: [2, 2], pads: [1, 1, 1, 1] }
  const [y, indices] = b.ops('MaxPool', [x], 2, attributes)
  graph.addOutput(b.op('Cast', [y!], { to: 1 }))
  graph.addOutput(b.op('Cast', [indices!], { to: 1 }))
  const feeds = {
    x: Tensor.float32(
      [1, 2, 5, 5],
      Float32Array.from({ length: 50 }, (_, i) => (i * 37) % 50),
    ),
  }
  const run = async (): Promise<number[][]> => {
    const session = await ortExecutor().load(model, { optimization: 'disabled' })
    const out = await session.run(feeds)
    await session.dispose()
    return session.outputNames.map((name) => Array.from(out[name]!.toNumbers()))
  }
  const want = await run()
  await inferTypes(model)
  assert.ok(lowerings.MaxPool!(y!.producer!))
  graph.sort()
  verifyModel(model)
  assert.deepEqual(await run(), want)
})
test('Split of many', () => agree('Split', [[2, 120]], { axis: 1 }, 60))
// logarithms round: 343 is a power of the branching, and one more than it needs another level
for (const [count, size] of [
  [343, 685],
  [344, 687],
] as const)
  test(`Split of ${count}`, () => agree('Split', [[2, size]], { axis: 1 }, count))
test('Concat of many', () =>
  agree(
    'Concat',
    Array.from({ length: 60 }, (_, i) => [2, 1 + (i % 3)]),
    { axis: 1 },
  ))
test('SpaceToDepth', () => agree('SpaceToDepth', [[2, 3, 4, 6]], { blocksize: 2 }))
test('Conv of 6 channels', () => agree('Conv', [[2, 6, 5, 5], [4, 6, 3, 3], [4]], { pads: [1, 1, 1, 1] }))
test('Sum, LogSoftmax, Round', async () => {
  await agree('Round', [[200]], {})
  await agree('Sum', [[2, 3], [3], [2, 1]], {})
  await agree('LogSoftmax', [[4, 5]], { axis: 1 })
})
for (const [name, extra] of Object.entries({
  plain: {},
  padded: { pads: [1, 1, 2, 1] },
  dilated: { dilations: [2, 3] },
  'rounded up': { ceil_mode: 1 },
  SAME_UPPER: { auto_pad: 'SAME_UPPER' },
  SAME_LOWER: { auto_pad: 'SAME_LOWER' },
}))
  test(`MaxPool with Indices, ${name}`, () => agree('MaxPool', [image], { ...pool, ...extra }, 2))
