/** Dropout in training mode is random, so it is tested by what its output shows: dx = dy * y / x. */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { Graph } from '../../src/graph/graph.ts'
import { Model } from '../../src/graph/model.ts'
import { Tensor } from '../../src/graph/tensor.ts'
import { differentiate } from '../../src/passes/autodiff.ts'
import { inferTypes } from '../../src/runtime/isolated/infer-types.ts'
import { ortExecutor } from '../../src/runtime/ort/ort.ts'

const N = 1000

for (const computed of [false, true])
  test(`training dropout with ${computed ? 'computed' : 'constant'} ratio and mode`, async () => {
    const model = new Model(new Graph('dropout'))
    const { graph } = model
    const x = graph.addInput('x', { elem: 'float32', dims: [N] })
    const extra = [
      ['ratio', Tensor.scalar(0.25)],
      ['training', Tensor.scalar(1, 'bool')],
    ] as const
    const [ratio, training] = extra.map(([name, t]) =>
      computed ? graph.addInput(name, { elem: t.type, dims: [] }) : graph.addInitializer(name, t),
    )
    const y = graph.append().op('Dropout', [x, ratio!, training!])
    graph.addOutput(y)
    await inferTypes(model)
    const dy = Tensor.float32(
      [N],
      Float32Array.from({ length: N }, (_, i) => 1 + i / N),
    )
    const dx = differentiate(model, new Map([[y, graph.addInitializer('dy', dy)]]), [x]).get(x)!
    graph.addOutput(dx)
    const session = await ortExecutor().load(model)
    const feeds: Record<string, Tensor> = { x: Tensor.float32([N], new Float32Array(N).fill(2)) }
    if (computed) for (const [name, t] of extra) feeds[name] = t
    const out = await session.run(feeds)
    await session.dispose()
    const gain = out[y.name]!.toFloat32().map((v) => v / 2)
    const kept = gain.filter((v) => v !== 0).length
    assert.ok(kept > 650 && kept < 850, `${kept} of ${N} kept`)
    const got = out[dx.name]!.toFloat32()
    for (let i = 0; i < N; i++) assert.ok(Math.abs(got[i]! - dy.toFloat32()[i]! * gain[i]!) < 1e-5, `element ${i}`)
  })
