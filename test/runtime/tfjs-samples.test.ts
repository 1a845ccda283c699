/** Every op's samples, forward and gradient, on TensorFlow.js: the same numbers as onnxruntime's. */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { MncError } from '../../src/base/errors.ts'
import type { Value } from '../../src/graph/graph.ts'
import type { Model } from '../../src/graph/model.ts'
import { Tensor } from '../../src/graph/tensor.ts'
import { lowerings } from '../../src/lowerings/provider-lowerings.ts'
import { ops } from '../../src/ops/index.ts'
import type { OpDef, OpSample } from '../../src/ops/support/define-op.ts'
import { differentiate } from '../../src/passes/autodiff.ts'
import { inferTypes } from '../../src/runtime/isolated/infer-types.ts'
import { ortExecutor } from '../../src/runtime/ort/ort.ts'
import { openBackend } from '../../src/runtime/tfjs/backends.ts'
import { kernels } from '../../src/runtime/tfjs/index.ts'
import { TfSession } from '../../src/runtime/tfjs/session.ts'
import { buildSample, upgradeSample } from '../ops/sample-model.ts'

type Feeds = Readonly<Record<string, Tensor>>
type Outputs = Readonly<Record<string, Tensor>>

/** Samples with a node that its kernel leaves to onnxruntime's CPU, by what it says. */
const NOT_COVERED: Readonly<Record<string, RegExp>> = {
  Constant: /not given as a tensor/,
  Dropout: /draws random numbers/,
  Pad: /input 2 is not constant/,
  Resize: /whole repetition/,
  Upsample: /whole repetition/,
  ConvTranspose: /dilated/,
  AveragePool: /dilated/,
  GroupNormalization: /input 1 is not constant/,
}

async function sampleModel(def: OpDef, sample: OpSample): Promise<{ model: Model; feeds: Feeds }> {
  const { model, feeds, variables } = buildSample(def, sample, 'float32')
  upgradeSample(model)
  await inferTypes(model)
  if (typeof def.gradient === 'function' && variables.length > 0) addGradients(model, variables)
  await inferTypes(model)
  // as the executor does where a kernel refuses
  for (const n of [...model.graph.nodes()]) if (n.op === 'MaxPool' && n.outputs.length > 1) lowerings[n.op]!(n)
  model.graph.sort()
  await inferTypes(model)
  return { model, feeds }
}

/** Adds the gradients of a weighted sum of all float outputs to the outputs. */
function addGradients(model: Model, variables: readonly Value[]): void {
  const { graph } = model
  const seeds = new Map<Value, Value>()
  for (const y of graph.outputs) {
    if (y.type?.elem !== 'float32') continue
    const values = Array.from({ length: y.dims.reduce((a, b) => a * b, 1) }, (_, i) => 0.3 + ((i * 0.618) % 1))
    seeds.set(y, graph.addInitializer('r', Tensor.float32(y.dims, values)))
  }
  if (seeds.size === 0) return
  for (const g of differentiate(model, seeds, variables).values()) graph.addOutput(graph.append().op('Identity', [g]))
}

async function onCpu(model: Model, feeds: Feeds): Promise<Outputs> {
  const session = await ortExecutor().load(model, { optimization: 'disabled', threads: 1 })
  try {
    return await session.run(feeds)
  } finally {
    await session.dispose()
  }
}

function compare(out: Outputs, want: Outputs, what: string): void {
  for (const [name, w] of Object.entries(want)) {
    const [a, b] = [out[name]!.toNumbers(), w.toNumbers()]
    assert.deepEqual(out[name]!.dims, w.dims, `${what}: dims of ${name}`)
    assert.equal(out[name]!.type, w.type, `${what}: type of ${name}`)
    const scale = Math.max(1e-3, ...Array.from(b, Math.abs).filter(Number.isFinite))
    for (let i = 0; i < b.length; i++)
      if (!Object.is(a[i], b[i]) && !(Math.abs(a[i]! - b[i]!) <= 1e-4 * scale))
        assert.fail(`${what}: ${name}[${i}] is ${a[i]}, onnxruntime says ${b[i]}`)
  }
}

/** Operators without a kernel are left, too. */
function isLeft(op: string, message: string): boolean {
  const without = /refuses the model: (\w+): no kernel$/.exec(message)?.[1]
  return without ? !kernels[without] : (NOT_COVERED[op]?.test(message) ?? false)
}

const none = { onCpu: new Set<never>(), fallbacks: [], keep: [] }

for (const def of ops)
  test(def.op, async () => {
    let covered = 0
    for (const sample of def.samples) {
      // 4-bit values live in files only
      if (sample.inputs.some((i) => /int4/.test(i?.type ?? ''))) continue
      const { model, feeds } = await sampleModel(def, sample)
      const want = await onCpu(model, feeds)
      for (const backend of ['cpu', 'wasm']) {
        const session = new TfSession(await openBackend(backend), model, none)
        try {
          compare(await session.run(feeds), want, `${def.op}, ${sample.name}, ${backend}`)
          covered++
        } catch (error) {
          if (!(error instanceof MncError) || !isLeft(def.op, error.message)) throw error
        } finally {
          await session.dispose()
        }
      }
    }
    if (kernels[def.op]) assert.ok(covered > 0, 'no sample runs')
  })
