/**
 * onnxruntime's WebGPU provider, on whatever adapter is available: a GPU, or SwiftShader of Debian's chromium-common (with
 * VK_ICD_FILENAMES). Skipped if there is none. Small: a software adapter takes a second for a step.
 */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { MncError } from '../../src/base/errors.ts'
import { Graph } from '../../src/graph/graph.ts'
import { Model } from '../../src/graph/model.ts'
import { Tensor } from '../../src/graph/tensor.ts'
import { runPass as pass } from '../../src/passes/run-pass.ts'
import { openDevice } from '../../src/runtime/devices/device.ts'
import type { Executor } from '../../src/runtime/executor.ts'
import { ortExecutor } from '../../src/runtime/ort/ort.ts'
import { linearModel, run, tinyNet } from '../train/fixtures.ts'

const executor: Executor | null = await openDevice('webgpu').catch((error: unknown) => {
  if (error instanceof MncError && error.code === 'no-device') return null
  throw error
})
const skip = executor ? false : 'no WebGPU adapter'

test("a training step runs on the provider alone, its state stays there, and the losses are the CPU's", {
  skip,
}, async () => {
  const options = { maxSteps: 4 }
  const [have, want] = [await run(tinyNet(), options, { executor: executor! }), await run(tinyNet(), options)]
  const start = have.events[0]
  assert.ok(start?.kind === 'start')
  assert.deepEqual(start.fallbacks, [])
  assert.match(start.device, /^onnxruntime [\d.]+ \(webgpu\) on /)
  assert.equal(have.losses.length, 4)
  for (const [i, loss] of want.losses.entries()) assert.ok(Math.abs(have.losses[i]! - loss) < 1e-4, `step ${i}`)
  for (const v of want.model.graph.initializers()) {
    const [a, b] = [have.model.graph.find(v.name)!.constant!.toNumbers(), v.constant!.toNumbers()]
    for (let i = 0; i < b.length; i++) assert.ok(Math.abs(a[i]! - b[i]!) < 1e-4, `${v.name}[${i}]`)
  }
})

test('learned quantiser scales stay on the device, too', { skip }, async () => {
  const model = linearModel()
  await pass(model, 'quantize', { ops: ['Gemm'], activationBits: 0 })
  const options = { maxSteps: 4 }
  const [have, want] = [await run(model, options, { executor: executor! }), await run(model, options)]
  for (const [i, loss] of want.losses.entries()) assert.ok(Math.abs(have.losses[i]! - loss) < 1e-4, `step ${i}`)
  for (const v of want.model.graph.initializers()) {
    const [a, b] = [have.model.graph.find(v.name)!.constant!.toNumbers(), v.constant!.toNumbers()]
    for (let i = 0; i < b.length; i++) assert.ok(Math.abs(a[i]! - b[i]!) < 1e-4, `${v.name}[${i}]`)
  }
})

test('float16: nearly the losses of float32, or one error if the adapter does not support it', { skip }, async () => {
  const options = { maxSteps: 4, precision: 'float16' } as const
  if (!(await executor!.float16!())) {
    await assert.rejects(run(tinyNet(), options, { executor: executor! }), {
      code: 'bad-usage',
      message: /does not compute in float16/,
    })
    return
  }
  const [have, want] = [await run(tinyNet(), options, { executor: executor! }), await run(tinyNet(), { maxSteps: 4 })]
  for (const [i, loss] of want.losses.entries()) assert.ok(Math.abs(have.losses[i]! - loss) < 0.02, `step ${i}`)
})

test('what the provider has no kernel for, or computes wrongly, is listed, and the results are right', {
  skip,
}, async () => {
  const model = new Model(new Graph('odd'), 21)
  const { graph } = model
  const b = graph.append()
  const x = graph.addInput('x', { elem: 'float32', dims: [1, 6, 6, 6] })
  const w = graph.addInput('w', { elem: 'float32', dims: [4, 6, 3, 3] })
  // 6 channels are filled up by a lowering, Round is an addition; for Det there is no kernel
  const y = b.op('Conv', [x, w], { kernel_shape: [3, 3] }, { name: 'y' })
  graph.addOutput(b.op('Round', [b.op('Mul', [y, b.scalar(10)])], {}, { name: 'rounded' }))
  graph.addOutput(y)
  graph.addOutput(b.op('Det', [y], {}, { name: 'det' }))
  const [have, want] = [await executor!.load(model), await ortExecutor().load(model)]
  assert.deepEqual(have.fallbacks, [{ op: 'Det', nodes: 1, reason: 'no kernel' }])
  const feeds = { x: ramp([1, 6, 6, 6]), w: ramp([4, 6, 3, 3]) }
  const [a, c] = [await have.run(feeds), await want.run(feeds)]
  for (const name of ['y', 'det', 'rounded'])
    for (const [i, v] of Array.from(c[name]!.toNumbers()).entries())
      assert.ok(Math.abs(a[name]!.toNumbers()[i]! - v) < 1e-3, `${name}[${i}]`)
  await have.dispose()
})

function ramp(dims: readonly number[]): Tensor {
  const size = dims.reduce((p, d) => p * d, 1)
  return Tensor.float32(
    dims,
    Float32Array.from({ length: size }, (_, i) => ((i * 0.618) % 1) - 0.5),
  )
}
