/** correct-bias on random networks: means of layers' outputs, measured by onnxruntime, become those of the float network. */
import assert from 'node:assert/strict'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import test from 'node:test'
import { MncError } from '../../src/base/errors.ts'
import { encodeModel, writeModel } from '../../src/codec/codec.ts'
import { cloneModel } from '../../src/graph/clone.ts'
import type { Model } from '../../src/graph/model.ts'
import { biasedOutput, canShiftOutputs, outputChannels } from '../../src/layers/layer-algebra.ts'
import { weightLayers } from '../../src/layers/layers.ts'
import { isMatrixProduct } from '../../src/ops/facts.ts'
import { runPass } from '../../src/passes/run-pass.ts'
import { ortExecutor } from '../../src/runtime/ort/ort.ts'
import type { CalibrationData } from '../../src/samples/calibration-data.ts'
import { randomGraph } from '../support/random-graph.ts'
import { randomBatches } from './golden.ts'

const ops = ['Conv', 'ConvTranspose', 'Gemm', 'MatMul']
const config = { 'session.disable_quant_qdq': '1' }

/** Mean of each channel of each layer's output, by layer. */
async function means(model: Model, data: CalibrationData): Promise<Map<string, Float64Array>> {
  const copy = cloneModel(model)
  for (const v of [...copy.graph.outputs]) copy.graph.removeOutput(v)
  const layers = weightLayers(copy.graph).filter(canShiftOutputs)
  const outputs = layers.map((l) => copy.graph.append().op('Identity', [biasedOutput(l)]))
  for (const v of outputs) copy.graph.addOutput(v)
  const found = new Map(layers.map((l) => [l.name, new Float64Array(outputChannels(l))]))
  const session = await ortExecutor().load(copy, { threads: 1, config })
  let batches = 0
  for await (const feeds of data.batches()) {
    const out = await session.run(feeds)
    batches++
    for (const [i, l] of layers.entries()) {
      const { dims, size } = out[outputs[i]!.name]!
      const mean = found.get(l.name)!
      const inner = isMatrixProduct(l.node) ? 1 : dims.slice(2).reduce((a, b) => a * b, 1)
      for (const [k, x] of out[outputs[i]!.name]!.toFloat32().entries())
        mean[Math.floor(k / inner) % mean.length]! += (x * mean.length) / size
    }
  }
  await session.dispose()
  for (const mean of found.values()) for (let i = 0; i < mean.length; i++) mean[i]! /= batches
  return found
}

function apart(a: ReadonlyMap<string, Float64Array>, b: ReadonlyMap<string, Float64Array>): number {
  let sum = 0
  for (const [name, x] of a) {
    const y = b.get(name)
    const largest = x.reduce((m, v) => Math.max(m, Math.abs(v)), 1e-3)
    if (y) sum += x.reduce((s, v, i) => s + ((v - y[i]!) / largest) ** 2, 0) / x.length
  }
  return Math.sqrt(sum / a.size)
}

test('means of outputs become those of the float network', async () => {
  let [before, after, layers] = [0, 0, 0]
  for (let seed = 700; seed < 712; seed++) {
    const model = randomGraph(seed)
    const data = randomBatches(model, 3)
    const bits = { ops, weightBits: 3, activationBits: 5, calibration: 'max', firstLayer: 'quantize' } as const
    const float = cloneModel(model)
    await runPass(model, 'quantize', bits, { calibration: data })
    const want = await means(float, data)
    before += apart(want, await means(model, data))
    const twin = cloneModel(model)
    await runPass(model, 'correct-bias', {}, { calibration: data })
    await runPass(twin, 'correct-bias', {}, { calibration: data })
    assert.deepEqual(encodeModel(model), encodeModel(twin))
    const own = apart(want, await means(model, data))
    // a rounded value on the edge of two steps may fall to either side
    assert.ok(own < 0.02, `seed ${seed}: ${own}`)
    after += own
    layers += want.size
    const again = await runPass(model, 'correct-bias', {}, { calibration: data })
    assert.equal(again.changed, false)
  }
  assert.ok(layers > 30 && after < 0.03 * before, `${layers} layers: ${before}, ${after}`)
})

test('a reference of its own, for weights that are rounded for good', async () => {
  const folder = mkdtempSync(join(tmpdir(), 'mnc-reference-'))
  try {
    const model = randomGraph(720)
    const data = randomBatches(model, 3)
    const file = join(folder, 'float.onnx')
    await writeModel(model, file)
    const want = await means(model, data)
    await runPass(model, 'quantize', { ops, weightBits: 3, activationBits: 0 }, { calibration: data })
    await runPass(model, 'round-weights', { biases: 'keep', target: 'layer' }, { calibration: data })
    const rounded = apart(want, await means(model, data))
    assert.equal((await runPass(cloneModel(model), 'correct-bias', {}, { calibration: data })).changed, false)
    await runPass(model, 'correct-bias', { reference: file }, { calibration: data })
    const corrected = apart(want, await means(model, data))
    assert.ok(corrected < 1e-3 && corrected < 0.1 * rounded, `${rounded}, ${corrected}`)
    const again = await runPass(model, 'correct-bias', { reference: file }, { calibration: data })
    assert.equal(again.changed, false)
    const stranger = join(folder, 'stranger.onnx')
    await writeModel(randomGraph(721), stranger)
    const other = randomGraph(722)
    for (const n of other.graph.nodes()) n.rename(`other/${n.name}`)
    await writeModel(other, stranger)
    await assert.rejects(
      runPass(model, 'correct-bias', { reference: stranger }, { calibration: data }),
      (e) => e instanceof MncError && e.code === 'no-reference',
    )
  } finally {
    rmSync(folder, { recursive: true })
  }
})
