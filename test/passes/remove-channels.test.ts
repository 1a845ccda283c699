/** Whole networks made smaller: outputs in onnxruntime stay, work goes down, training and quantising go on. */
import assert from 'node:assert/strict'
import test from 'node:test'
import { modelInfo } from '../../src/analysis/model-info.ts'
import { cloneModel } from '../../src/graph/clone.ts'
import type { Model } from '../../src/graph/model.ts'
import { Tensor } from '../../src/graph/tensor.ts'
import { buildNetwork } from '../../src/models/spec.ts'
import { weightLayers } from '../../src/passes/layers.ts'
import { pass } from '../../src/passes/manager.ts'
import { Rng } from '../../src/rng.ts'
import { randomBatches, relativeError, runModel } from './golden.ts'

/** A network whose normalisations are as after training: dead channels become constants that are not 0. */
function lived(spec: Parameters<typeof buildNetwork>[0]): Model {
  const model = buildNetwork(spec, { seed: 3 })
  const rng = new Rng(7)
  for (const v of model.graph.initializers())
    if (v.constant?.dims.length === 1 && v.constant.type === 'float32') {
      const draw = Float32Array.from({ length: v.constant.size }, () => rng.uniform(0.1, 1))
      v.setConstant(Tensor.float32(v.constant.dims, draw))
    }
  return model
}

const networks = {
  'densenet-bc': { family: 'densenet-bc', depth: 10, growth: 4, size: 8, classes: 10 },
  resnet: { family: 'resnet', depth: 8, size: 8, classes: 10 },
  lenet: { family: 'lenet', size: 12 },
} as const

for (const [name, spec] of Object.entries(networks))
  for (const bits of [32, 4])
    test(`${name}, weights of ${bits} bits: half the channels go, the outputs stay`, async () => {
      const model = lived(spec)
      await pass(model, 'prune', { pattern: 'channel', sparsity: 0.5, scope: 'layer' })
      if (bits < 32) await pass(model, 'quantize', { weightBits: bits }, { calibration: randomBatches(model, 2) })
      const before = cloneModel(model)
      const { changed } = await pass(model, 'remove-channels')
      assert.ok(changed)
      assert.ok(relativeError(await runModel(before), await runModel(model)) < 1e-5)
      const [was, is] = [await modelInfo(before, { bytes: 0 }), await modelInfo(model, { bytes: 0 })]
      // constants that reach padded convolutions with quantised weights keep their channels
      const least = bits < 32 ? 0.85 : 0.8
      assert.ok(is.macs! < least * was.macs! && is.parameters < was.parameters, `${is.macs} of ${was.macs}`)
      assert.equal((await pass(model, 'remove-channels')).changed, false)
    })

test('masks of what is gone go too; those of layers where zero channels stay tell how many', async () => {
  const model = lived(networks.resnet)
  await pass(model, 'prune', { pattern: 'channel', sparsity: 0.5, scope: 'layer' })
  await pass(model, 'remove-channels')
  for (const l of weightLayers(model.graph).filter((x) => x.maskNode)) {
    const values = l.mask!.constant!.toFloat32()
    const share = values.filter((x) => x === 0).length / values.length
    assert.ok(share > 0, l.name)
    assert.equal(Number(l.maskNode!.metadata.get('mnc.sparsity')), share)
  }
})
