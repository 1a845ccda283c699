/** Everything that takes long says how far it is, and ends as interrupted soon after it is told to stop. */
import assert from 'node:assert/strict'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import test, { after } from 'node:test'
import {
  calibrationData,
  checkModels,
  cloneModel,
  compareLayers,
  compress,
  evaluate,
  exportFor,
  exportModel,
  type LongRun,
  MncError,
  type Model,
  measure,
  measureLatency,
  metrics,
  ortExecutor,
  parseRecipe,
  pass,
  profileOperators,
  ptq,
  runRecipe,
  sampleBatches,
  scanSensitivity,
  syntheticInputs,
  Tensor,
  train,
  updateBatchNorm,
  writeModel,
} from '../../src/index.ts'
import { npy, npz } from '../support/data-files.ts'
import { images, pixels, SIZE, tinyNet } from '../train/fixtures.ts'

const folder = mkdtempSync(join(tmpdir(), 'mnc-long-'))
after(() => rmSync(folder, { recursive: true }))
const file = join(folder, 'net.onnx')
await writeModel(tinyNet(), file)

const COUNT = 24
const set = images(COUNT)
const archive = {
  images: npy(Uint8Array.from(set.images), [COUNT, SIZE, SIZE]),
  labels: npy(Uint8Array.from(set.labels), [COUNT]),
}
writeFileSync(join(folder, 'set.npz'), npz(archive))
const DATA = `npz:${join(folder, 'set.npz')}`
const calibration = () => calibrationData(tinyNet(), set, { ...pixels, inputSize: [SIZE, SIZE], batch: 4 })
const feeds = { input: Tensor.float32([4, 1, SIZE, SIZE], new Float32Array(4 * SIZE * SIZE)) }

async function quantised(): Promise<Model> {
  const model = tinyNet()
  await pass(model, 'quantize', { ops: ['Conv', 'Gemm'], firstLayer: 'quantize' }, { calibration: await calibration() })
  return model
}

/** Anything, with a way to stop it and to be told. */
interface Told extends LongRun {
  readonly onProgress: (done: number, total: number) => void
}
type Work = (run: Told) => Promise<unknown>

const works: Readonly<Record<string, Work>> = {
  evaluate: (run) => evaluate(tinyNet(), set, pixels, { batch: 4, ...run }),
  measure: (run) =>
    measure(tinyNet(), set, pixels, [metrics.find((m) => m.name === 'accuracy')!], { batch: 4, ...run }),
  syntheticInputs: (run) => syntheticInputs(tinyNet(), { samples: 16, batch: 8, steps: 6, ...run }),
  async runRecipe({ signal, onProgress }) {
    const stage = { name: 'copy', from: file, eval: { batch: 4 } }
    const recipe = await parseRecipe({ name: 'r', data: DATA, stages: [stage] })
    await runRecipe(recipe, {
      ...{ workdir: join(folder, 'recipe'), resume: false, signal },
      onEvent: (e) => e.kind === 'progress' && onProgress(e.done, e.total),
    })
  },
  async compress({ signal, onProgress }) {
    let done = 0
    const options = { effort: 'fast', maxDrop: 0.5 } as const
    await compress(tinyNet(), { data: DATA, workdir: join(folder, 'compress'), options, signal }, (e) => {
      if (e.kind === 'stage') onProgress(++done, 100)
    })
  },
  checkModels: ({ signal, onProgress }) =>
    checkModels(tinyNet(), tinyNet(), {
      ...{ batches: sampleBatches(tinyNet(), set, pixels, 4), onProgress: (n) => onProgress(n, COUNT) },
      signal,
    }),
  compareLayers: (run) => compareLayers(fixed(tinyNet()), fixed(tinyNet()), feeds, 4, run),
  updateBatchNorm: (run) =>
    updateBatchNorm(tinyNet(), { data: set, preprocess: pixels, batch: 4, augment: 'none', ...run }),
  measureLatency: async (run) => measureLatency([{ file, model: tinyNet() }], { seconds: 0.1, batch: [1, 2] }, run),
  profileOperators: async (run) =>
    profileOperators({ file, model: tinyNet() }, ortExecutor(), { threads: 1, batch: 1, seed: 0 }, run),
  scanSensitivity: ({ signal, onProgress }) =>
    scanSensitivity(tinyNet(), {
      ...{ options: { sparsity: [0.5, 0.9] }, onPoint: (_, done, total) => onProgress(done, total) },
      signal,
    }),
  exportModel: async (run) => exportModel(await quantised(), { format: 'int8' }, run),
  exportFor: async (run) => exportFor(await quantised(), { target: 'size' }, run),
  'round-weights': async (run) =>
    pass(await quantised(), 'round-weights', { ops: ['*'] }, { calibration: await calibration(), ...run }),
  reconstruct: async (run) =>
    pass(await quantised(), 'reconstruct', { steps: 4 }, { calibration: await calibration(), ...run }),
  train: ({ signal, onProgress }) =>
    train(cloneModel(tinyNet()), { data: set, preprocess: pixels, options: { epochs: 1, batch: 4 }, signal }, (e) => {
      if (e.kind === 'step') onProgress(e.step + 1, COUNT / 4)
    }),
  ptq: ({ signal, onProgress }) => {
    let done = 0
    const options = { weightBits: 8, effort: 'fast' } as const
    return ptq(tinyNet(), { data: set, preprocess: pixels, options, signal }, (e) => {
      if (e.kind === 'begin') onProgress(++done, 100)
    })
  },
}

/** At a batch of one: several runs for a batch of samples. */
function fixed(model: Model): Model {
  model.graph.inputs[0]!.setType({ elem: 'float32', dims: [1, 1, SIZE, SIZE] })
  return model
}

for (const [name, work] of Object.entries(works))
  test(`${name} says how far it is, and stops when told to`, async () => {
    const seen: number[] = []
    let most = 0
    await work({
      onProgress(done, total) {
        seen.push(done)
        most = total
      },
    })
    assert.ok(seen.length > 1, `${seen}`)
    assert.deepEqual(
      [...seen].sort((a, b) => a - b),
      seen,
    )
    assert.ok(seen.at(-1)! <= most * (1 + 1e-9), `${seen.at(-1)} of ${most}`)
    const stop = new AbortController()
    let after = 0
    const stopped = work({
      signal: stop.signal,
      onProgress() {
        if (stop.signal.aborted) after++
        stop.abort()
      },
    })
    await assert.rejects(stopped, (e) => e instanceof MncError && e.code === 'interrupted' && e.blame === 'interrupt')
    assert.ok(after <= 1, `${after} more`)
  })

test('a run that is stopped before it begins does nothing', async () => {
  const model = tinyNet()
  const before = model.graph.nodeCount
  const signal = AbortSignal.abort()
  await assert.rejects(pass(model, 'prune', {}, { signal }), {
    code: 'interrupted',
    message: /before insert-prune-mask/,
  })
  assert.equal(model.graph.nodeCount, before)
})
