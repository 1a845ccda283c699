/** How far an exported model is from its source. */
import assert from 'node:assert/strict'
import { exportModel } from '../../src/export/export-model.ts'
import type { ExportOptions } from '../../src/export/export-options.ts'
import type { Model } from '../../src/graph/model.ts'
import { Tensor } from '../../src/graph/tensor.ts'
import { verifyModel } from '../../src/graph/verify.ts'
import type { LoadOptions } from '../../src/runtime/executor.ts'
import { ortExecutor } from '../../src/runtime/ort/ort.ts'
import { noise } from './nets.ts'

/** A noise input of [-2, 2). */
export function inputOf(model: Model, seed = 7): Tensor {
  const r = noise(seed)
  const dims = model.graph.inputs[0]!.type!.dims as number[]
  const n = dims.reduce((a, d) => a * d, 1)
  return Tensor.float32(
    dims,
    Float32Array.from({ length: n }, () => r() * 2),
  )
}

async function run(model: Model, options: LoadOptions): Promise<Float32Array> {
  const session = await ortExecutor().load(model, options)
  const out = await session.run({ [model.graph.inputs[0]!.name]: inputOf(model) })
  await session.dispose()
  return Object.values(out)[0]!.toFloat32()
}

function relativeError(got: Float32Array, want: Float32Array): number {
  let error = 0
  let largest = 0
  for (let i = 0; i < want.length; i++) {
    error = Math.max(error, Math.abs(got[i]! - want[i]!))
    largest = Math.max(largest, Math.abs(want[i]!))
  }
  assert.ok(largest > 0, 'the reference gives only zeros')
  return error / largest
}

/** Largest relative error of the exported model at each level, against what the source means. */
export async function errors(
  source: Model,
  options: ExportOptions,
): Promise<{ disabled: number; all: number; model: Model }> {
  const want = await run(source, { optimization: 'disabled' })
  const { model } = await exportModel(source, options)
  verifyModel(model)
  const disabled = relativeError(await run(model, { optimization: 'disabled' }), want)
  return { disabled, all: relativeError(await run(model, { optimization: 'all' }), want), model }
}

/** Asserts that every format, or those named, is within 1e-4 at both levels. */
export async function assertSame(
  source: Model,
  what = '',
  formats: readonly ExportOptions[] = [
    { format: 'packed' },
    { format: 'int4' },
    { format: 'int8' },
    { format: 'int8', packedWeights: true },
  ],
): Promise<void> {
  for (const options of formats) {
    const e = await errors(source, options)
    assert.ok(e.disabled < 1e-4 && e.all < 1e-4, `${what} ${JSON.stringify(options)}: ${e.disabled}, ${e.all}`)
  }
}
