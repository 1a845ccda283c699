/** Whole networks made smaller: outputs in onnxruntime stay, work goes down, training and quantising go on. */
import assert from 'node:assert/strict'
import test from 'node:test'
import { modelInfo } from '../../src/analysis/model-info.ts'
import { cloneModel } from '../../src/graph/clone.ts'
import type { Model } from '../../src/graph/model.ts'
import { Tensor } from '../../src/graph/tensor.ts'
import { NetworkBuilder } from '../../src/models/layers.ts'
import { buildNetwork } from '../../src/models/spec.ts'
import { recomputeMasks } from '../../src/passes/insert-prune-mask.ts'
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

test('channels that belong together are pruned together, so that all of them can go', async () => {
  const net = new NetworkBuilder(new Rng(5))
  const b = net.model.graph.append()
  let x = net.relu(net.conv(net.input({ channels: 3, size: 8 }), 'stem', 8, { kernel: 3 }), 'relu0')
  for (const k of [1, 2]) {
    const inner = net.relu(net.conv(x, `block${k}.a`, 8, { kernel: 3 }), `relu${k}`)
    const other = net.conv(inner, `block${k}.b`, 8, { kernel: 1 })
    x = { ...x, value: b.op('Add', [x.value, other.value], {}, { name: `add${k}` }) }
  }
  const model = net.output(net.linear(net.globalAveragePool(x, 'pool'), 'fc', 3, 'logits'))
  await pass(model, 'prune', { pattern: 'channel', sparsity: 0.5, scope: 'layer' })
  const masks = weightLayers(model.graph).flatMap((l) => (l.mask ? [{ l, mask: l.mask.constant!.toFloat32() }] : []))
  const dead = (name: string): string => {
    const { mask, l } = masks.find((m) => m.l.name === name)!
    const inner = mask.length / 8
    assert.equal(l.tensor.dims[0], 8)
    return Array.from({ length: 8 }, (_, c) => mask[c * inner]).join('')
  }
  assert.equal(dead('stem').replaceAll('0', '').length, 4)
  for (const name of ['block1.b', 'block2.b']) assert.equal(dead(name), dead('stem'))
  assert.notEqual(dead('block1.a'), dead('stem'))
  const again = recomputeMasks(weightLayers(model.graph), (l) => l.tensor.toFloat32())
  for (const { l, mask } of masks) assert.deepEqual([...again].find(([m]) => m.name === l.name)![1], mask)
  const before = cloneModel(model)
  const { declined } = await pass(model, 'remove-channels')
  assert.deepEqual(declined, [])
  for (const l of weightLayers(model.graph).filter((w) => w.node.op === 'Conv'))
    assert.equal(l.tensor.dims[0], 4, l.name)
  assert.ok(relativeError(await runModel(before), await runModel(model)) < 1e-5)
})
