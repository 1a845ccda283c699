/**
 * Random networks with dead channels (support/channel-net.ts): without those that can be removed, onnxruntime computes
 * the same at all four optimisation levels and at other batches.
 */
import assert from 'node:assert/strict'
import test from 'node:test'
import { Rng } from '../../src/base/rng.ts'
import { cloneModel } from '../../src/graph/clone.ts'
import type { Model } from '../../src/graph/model.ts'
import { Tensor } from '../../src/graph/tensor.ts'
import { weightLayers } from '../../src/layers/layers.ts'
import { runPass as pass } from '../../src/passes/run-pass.ts'
import { ortExecutor } from '../../src/runtime/ort/ort.ts'
import { ChannelNet } from '../support/channel-net.ts'
import { randomBatches } from './golden.ts'

const LEVELS = ['disabled', 'basic', 'extended', 'all'] as const
function feedsFor(model: Model, batch: number, seed: number): Record<string, Tensor> {
  const rng = new Rng(seed)
  return Object.fromEntries(
    model.graph.inputs.map((v) => {
      const dims = v.type!.dims!.map((d) => (typeof d === 'number' ? d : batch))
      const draw = v.type!.elem === 'int64' ? () => Math.floor(rng.uniform(0, 7)) : () => rng.normal()
      return [v.name, Tensor.from(v.type!.elem, dims, Array.from({ length: dims.reduce((a, b) => a * b, 1) }, draw))]
    }),
  )
}

type Outputs = Record<string, Tensor>
async function outputsOf(
  model: Model,
  optimization: (typeof LEVELS)[number],
  batches: readonly number[],
): Promise<Outputs[]> {
  const session = await ortExecutor().load(model, { optimization, threads: 1 })
  const out: Outputs[] = []
  for (const batch of batches) out.push(await session.run(feedsFor(model, batch, 9)))
  await session.dispose()
  return out
}

/** Of each output, the largest difference as a fraction of its largest value; 0 where both are the same throughout. */
function worst(a: Outputs, b: Outputs): number {
  let most = 0
  for (const [name, t] of Object.entries(a)) {
    if (b[name]?.dims.join() !== t.dims.join()) return Number.POSITIVE_INFINITY
    const [x, y] = [t.toFloat32(), b[name].toFloat32()]
    const scale = x.reduce((m, v) => Math.max(m, Math.abs(v)), 0)
    x.forEach((v, i) => {
      if (v !== y[i]) most = Math.max(most, Math.abs(v - y[i]!) / scale)
    })
  }
  return most
}

const RUNS = Number(process.env.RUNS ?? 20)
const FIRST = Number(process.env.SEED ?? 1)

test(`${RUNS} random networks from seed ${FIRST}: dead channels go, the outputs stay`, async () => {
  const seen = new Map<string, number>()
  let removed = 0
  for (let seed = FIRST; seed < FIRST + RUNS; seed++) {
    const net = new ChannelNet(seed)
    const model = net.build(3 + (seed % 8))
    const what = `seed ${seed} (${[...net.used].join(', ')})`
    const options = net.rng.uniform(0, 1)
    if (options < 0.3)
      await pass(model, 'prune', { ops: ['Conv', 'Gemm', 'MatMul'], sparsity: 0.4, pattern: 'channel', scope: 'layer' })
    const bits = options > 0.85 ? 8 : 32
    if (bits < 32)
      await pass(
        model,
        'quantize',
        { ops: ['Conv', 'Gemm'], weightBits: 8, activationBits: 0 },
        { calibration: randomBatches(model, 1) },
      )
    const before = cloneModel(model)
    const weights = (m: Model): number => weightLayers(m.graph).reduce((n, l) => n + l.tensor.size, 0)
    try {
      const { changed } = await pass(model, 'remove-channels')
      if (changed) {
        removed++
        assert.ok(weights(model) < weights(before))
        for (const name of net.used) seen.set(name, (seen.get(name) ?? 0) + 1)
      }
      const batches = [1, 2, 5]
      const want = await outputsOf(before, 'disabled', batches)
      // rounding to float16 takes place at other sums; elsewhere the sums of float32 have other terms
      const allowed = net.used.has('narrow') ? 2e-2 : 1e-4
      for (const level of LEVELS) {
        const own = await outputsOf(before, level, batches)
        const out = await outputsOf(model, level, batches)
        out.forEach((o, i) => {
          const error = worst(want[i]!, o)
          assert.ok(error <= allowed + 4 * worst(want[i]!, own[i]!), `${level}, batch ${batches[i]}: ${error}`)
        })
      }
      assert.equal((await pass(model, 'remove-channels')).changed, false, 'a second time')
    } catch (e) {
      throw new Error(`${what}: ${e instanceof Error ? e.message : e}`, { cause: e })
    }
  }
  assert.ok(removed > RUNS / 2, `channels went in ${removed} of ${RUNS}`)
  if (RUNS >= 20)
    for (const name of ['residual', 'depthwise', 'narrow', 'body', 'positions', 'count'])
      assert.ok(seen.has(name), `${name}: ${[...seen.keys()]}`)
})
