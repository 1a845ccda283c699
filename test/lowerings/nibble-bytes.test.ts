/** Without optimisations too, weights of 4 and of 8 bits of one shape are what they should be. */
import assert from 'node:assert/strict'
import test from 'node:test'
import { Rng } from '../../src/base/rng.ts'
import { cloneModel } from '../../src/graph/clone.ts'
import { Graph, type Value } from '../../src/graph/graph.ts'
import { Model } from '../../src/graph/model.ts'
import { Tensor } from '../../src/graph/tensor.ts'
import { hasNibbles, nibblesToBytes } from '../../src/lowerings/nibble-bytes.ts'
import { runPass } from '../../src/passes/run-pass.ts'
import { loadIsolated } from '../../src/runtime/isolated/engine.ts'
import { ortExecutor } from '../../src/runtime/ort/ort.ts'
import { randomBatches, randomFeeds, relativeError } from '../passes/golden.ts'

/** Convolutions of one shape in a row. */
function row(count: number): Model {
  const rng = new Rng(4)
  const graph = new Graph('row')
  const b = graph.append()
  const weights = (i: number): Value =>
    b.initializer(
      `w${i}`,
      Tensor.float32(
        [8, 8, 3, 3],
        Float32Array.from({ length: 576 }, () => rng.uniform(-0.3, 0.3)),
      ),
    )
  let x: Value = graph.addInput('x', { elem: 'float32', dims: ['N', 8, 5, 5] })
  for (let i = 0; i < count; i++) x = b.op('Conv', [x, weights(i)], { pads: [1, 1, 1, 1] }, { name: `conv${i}` })
  x.setType({ elem: 'float32', dims: null })
  graph.addOutput(x)
  return new Model(graph, 21)
}

for (const [i, layers] of [2, 5, 6].entries())
  for (const granularity of ['tensor', 'channel'] as const)
    test(`${layers} layers with weights of 4 and 8 bits by turns, a scale a ${granularity}`, async () => {
      const model = row(layers)
      const layerWeightBits = Object.fromEntries([1, 3, 5].filter((k) => k < layers).map((k) => [`conv${k}`, 8]))
      const options = {
        weightBits: 4,
        activationBits: 0,
        firstLayer: 'quantize',
        granularity,
        layerWeightBits,
      } as const
      await runPass(model, 'quantize', options, { calibration: randomBatches(model, 1) })
      assert.ok(hasNibbles(model))
      const run = async (optimization: 'disabled' | 'basic', m = model) => {
        const session = await ortExecutor().load(m, { optimization, threads: 1 })
        try {
          return await session.run(randomFeeds(model, i))
        } finally {
          await session.dispose()
        }
      }
      const want = await run('basic')
      assert.ok(relativeError(want, await run('disabled')) < 1e-5)
      const isolated = await loadIsolated(model, { optimization: 'disabled' })
      try {
        assert.ok(relativeError(want, await isolated.run(randomFeeds(model, i))) < 1e-5)
      } finally {
        await isolated.dispose()
      }
      const copy = cloneModel(model)
      nibblesToBytes(copy)
      assert.ok(!hasNibbles(copy))
      assert.ok(relativeError(want, await run('basic', copy)) < 1e-6)
    })
