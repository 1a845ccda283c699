/**
 * onnxruntime's WebGPU provider, on whatever adapter there is: a GPU, or SwiftShader of Debian's chromium-common (with
 * VK_ICD_FILENAMES). Skipped where there is none. Small: a software adapter takes a second for a step.
 */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { MncError } from '../../src/errors.ts'
import { openDevice } from '../../src/runtime/device.ts'
import type { Executor } from '../../src/runtime/executor.ts'
import { run, tinyNet } from '../train/fixtures.ts'

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
