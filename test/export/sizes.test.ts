import assert from 'node:assert/strict'
import { existsSync } from 'node:fs'
import { test } from 'node:test'
import { checkModels } from '../../src/check/check.ts'
import { readModel } from '../../src/codec/codec.ts'
import { explainKernels } from '../../src/export/explain.ts'
import { exportModel } from '../../src/export/export-model.ts'
import { exportFor } from '../../src/export/targets/export-for.ts'
import type { Model } from '../../src/graph/model.ts'
import { Tensor } from '../../src/graph/tensor.ts'
import { buildNetwork } from '../../src/models/spec.ts'
import { upgradeModelTo } from '../../src/ops/raise-opset.ts'
import { runPass } from '../../src/passes/run-pass.ts'
import { noise } from './nets.ts'

/** Prunes to 75 % and quantises weights to 4 bits, activations too where `calibrate` is given. */
async function compress(model: Model, side: number, ops = ['Conv']): Promise<Model> {
  const { name } = model.graph.inputs[0]!
  const r = noise(1)
  const image = Tensor.float32(
    [1, 3, side, side],
    Float32Array.from({ length: 3 * side * side }, () => 2 * r()),
  )
  const calibration = {
    async *batches() {
      yield { [name]: image }
    },
  }
  await runPass(model, 'insert-prune-mask', { sparsity: 0.75, ops })
  await runPass(model, 'insert-fake-quant', { ops }, { calibration })
  return model
}

/** Bytes of everything that convolution weights need, over their number. */
async function convBytesPerWeight(model: Model): Promise<number> {
  const { report } = await exportModel(model)
  const dense = report.tensors.filter((t) => t.storage === 'raw')
  const packed = report.tensors.filter((t) => t.storage !== 'raw')
  const bytes = report.weightBytes - dense.reduce((n, t) => n + t.bytes, 0)
  const weights = packed.reduce((n, t) => n + t.elements, 0)
  const zeros = packed.reduce((n, t) => n + t.elements - t.nonZeros, 0) / weights
  assert.ok(zeros > 0.74 && zeros < 0.77, `${zeros} zeros`)
  return bytes / weights
}

test('packed DenseNet-BC-100-12 at 75 %: at most 0.30 bytes per weight, decode folded at load', async () => {
  const model = buildNetwork({ family: 'densenet-bc', depth: 100, growth: 12, classes: 100 }, { seed: 1 })
  await compress(model, 32)
  const perWeight = await convBytesPerWeight(model)
  assert.ok(perWeight <= 0.3, `${perWeight}`)
  const { unfolded, ops } = await explainKernels((await exportModel(model)).model)
  assert.deepEqual(unfolded, [])
  assert.equal(ops.CumSum, undefined)
})

test('packed ResNet-20 at 75 %: at most 0.30 bytes per weight', async (t) => {
  const path = '../shared/zoo/akamaster_resnet20_bn_op13.onnx'
  if (!existsSync(path)) return t.skip('the zoo is not here')
  const model = await readModel(path)
  upgradeModelTo(model, 21)
  const perWeight = await convBytesPerWeight(await compress(model, 32))
  assert.ok(perWeight <= 0.3, `${perWeight}`)
})

test('target size, ResNet-20 at 75 % and 4 bits: at most 72,000 bytes for all of it, computing what the graph computes', async (t) => {
  const path = '../shared/zoo/akamaster_resnet20_bn_op13.onnx'
  if (!existsSync(path)) return t.skip('the zoo is not here')
  const model = await readModel(path)
  upgradeModelTo(model, 21)
  await compress(model, 32, ['Conv', 'Gemm'])
  const made = await exportFor(model, { target: 'size' })
  assert.ok(made.report.bytes <= 72_000, `${made.report.bytes}`)
  assert.equal(made.report.left.weights, 0)
  const { byOptimisation } = await checkModels(model, made.model, { seed: 3 })
  assert.ok(byOptimisation.disabled!.maxRelError < 1e-3, JSON.stringify(byOptimisation))
  // kernels that add up in another order put a value in the middle of two levels on the other one, in a sample of 16 here and there
  assert.ok(byOptimisation.all!.equal >= 0.8, JSON.stringify(byOptimisation))
})
