/** Inputs made from what BatchNormalization remembers: their statistics, measured by onnxruntime, and what `mnc ptq` does with them. */
import assert from 'node:assert/strict'
import { mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import test, { after } from 'node:test'
import type { MncError } from '../../src/base/errors.ts'
import { parseOptions } from '../../src/base/options.ts'
import { writeModel } from '../../src/codec/codec.ts'
import { commands } from '../../src/commands/index.ts'
import { CommandIO } from '../../src/commands/io.ts'
import type { ArraySet } from '../../src/data/array-set.ts'
import { calibrationData } from '../../src/data/calibration.ts'
import { writeNpyFolder } from '../../src/data/npy-writer.ts'
import { openDataset } from '../../src/data/open.ts'
import { cloneModel } from '../../src/graph/clone.ts'
import type { Model } from '../../src/graph/model.ts'
import { isChannelNorm } from '../../src/ops/facts.ts'
import { runPass } from '../../src/passes/run-pass.ts'
import { syntheticInputs } from '../../src/ptq/synthetic/synthetic-inputs.ts'
import { loadRecipe } from '../../src/recipes/load.ts'
import { runRecipe } from '../../src/recipes/run.ts'
import { Sink } from '../cli/sink.ts'
import { outputs } from '../support/outputs.ts'
import { images, linearModel, pixels, tinyNet } from '../train/fixtures.ts'

const folder = mkdtempSync(join(tmpdir(), 'mnc-synthetic-'))
after(() => rmSync(folder, { recursive: true, force: true }))
const at = (name: string): string => join(folder, name)

/** A net whose normalisations have seen images. */
async function seasoned(seed: number): Promise<Model> {
  const model = tinyNet(seed)
  model.metadata.set('mnc.preprocess', JSON.stringify(pixels))
  await runPass(model, 'reestimate-bn', {}, { calibration: await calibrationData(model, images(60), { batch: 20 }) })
  return model
}

/** Mean over normalisations and channels of ((m - mu) / sigma)^2 + (s / sigma - 1)^2, of what onnxruntime gives for all samples at once. */
async function offBy(model: Model, set: ArraySet | 'random'): Promise<number> {
  const data = await calibrationData(model, set, { limit: 64, batch: 64 })
  const norms = [...model.graph.nodes()].filter(isChannelNorm)
  let total = 0
  for (const norm of norms) {
    const [mean, variance] = [3, 4].map((i) => norm.input(i).constant!.toFloat32())
    const copy = cloneModel(model)
    for (const v of [...copy.graph.outputs]) copy.graph.removeOutput(v)
    copy.graph.addOutput(copy.graph.find(norm.input(0).name)!)
    const x = await outputs(copy, data)
    const channels = mean!.length
    const plane = x.length / 64 / channels
    for (let c = 0; c < channels; c++) {
      const own = x.filter((_, i) => Math.floor(i / plane) % channels === c)
      const m = own.reduce((a, b) => a + b, 0) / own.length
      const s = Math.sqrt(own.reduce((a, b) => a + (b - m) ** 2, 0) / own.length)
      const sigma = Math.sqrt(variance![c]!)
      total += (((m - mean![c]!) / sigma) ** 2 + (s / sigma - 1) ** 2) / channels
    }
  }
  return total / norms.length
}

for (const seed of [1, 2])
  test(`made inputs give normalisations what they remember, random ones do not (net ${seed})`, async () => {
    const model = await seasoned(seed)
    const said: string[] = []
    const set = await syntheticInputs(model, { samples: 64, steps: 80 }, (m) => said.push(m))
    assert.equal(set.size, 64)
    const [random, made] = [await offBy(model, 'random'), await offBy(model, set)]
    assert.ok(made < 0.1 * random, `${made} against ${random}`)
    const [first, last] = /off by (\S+), then (\S+)$/.exec(said[0]!)!.slice(1).map(Number)
    assert.ok(last! < first! && Math.abs(last! - made) < 0.2 * made + 1e-3, `${said[0]} against ${made}`)
    const folded = cloneModel(model)
    await runPass(folded, 'fold-bn')
    assert.ok(![...folded.graph.nodes()].some(isChannelNorm))
    // what is behind a folded one is known, too
    const behind = await syntheticInputs(folded, { samples: 64, steps: 80 })
    assert.ok((await offBy(model, behind)) < 0.1 * random)
  })

test('the same seed makes the same inputs, another one others', async () => {
  const model = await seasoned(3)
  const make = (seed: number) => syntheticInputs(model, { samples: 12, batch: 6, steps: 5, seed })
  const [a, b, other] = [await make(1), await make(1), await make(2)]
  assert.equal(a.contentHash(), b.contentHash())
  assert.notEqual(a.contentHash(), other.contentHash())
})

test('making them can be followed and stopped', async () => {
  const model = await seasoned(3)
  const seen: number[] = []
  const stop = new AbortController()
  const onProgress = (done: number, total: number): void => {
    assert.equal(total, 10)
    seen.push(done)
    if (done === 6) stop.abort()
  }
  const run = syntheticInputs(model, { samples: 12, batch: 6, steps: 5, signal: stop.signal, onProgress })
  await assert.rejects(run, (e: MncError) => e.blame === 'interrupt')
  assert.deepEqual(seen, [0, 1, 2, 3, 4, 5, 6])
})

test('a network that remembers nothing is refused with what to give', async () => {
  await assert.rejects(
    syntheticInputs(linearModel(), { samples: 8 }),
    (e: MncError) => e.blame === 'model' && /no BatchNormalization/.test(e.message) && /--data/.test(e.describe()),
  )
})

test('arrays are written as they are read', async () => {
  const set = await syntheticInputs(await seasoned(4), { samples: 6, batch: 6, steps: 3 })
  const [column] = set.columns
  const all = [0, 1, 2, 3, 4, 5]
  assert.equal(await writeNpyFolder(set, at('arrays')), undefined)
  const again = (await openDataset(`npy:${at('arrays')}`, 'train')) as ArraySet
  assert.equal(again.columns[0]!.name, column!.name)
  assert.deepEqual(again.read(again.columns[0]!, all).toFloat32(), set.read(column!, all).toFloat32())
  const odd = cloneModel(await seasoned(4))
  odd.graph.rename(odd.graph.fed[0]!, 'train_x/y')
  const named = await syntheticInputs(odd, { samples: 6, batch: 6, steps: 3 })
  const map = await writeNpyFolder(named, at('odd'))
  assert.deepEqual(map, { 'train_x/y': 'input0' })
  assert.deepEqual(readdirSync(at('odd')), ['input0.npy'])
  const found = (await openDataset(`npy:${at('odd')}`, 'train', { map })) as ArraySet
  const calibration = await calibrationData(odd, found, { batch: 6 })
  assert.equal(calibration.samples, 6)
})

test('mnc ptq without data makes its own, says so, and leaves a recipe that gives the same bytes', async () => {
  await writeModel(await seasoned(5), at('net.onnx'))
  const def = commands.find((c) => c.name === 'ptq')!
  const [out, err] = [new Sink(), new Sink()]
  const io = new CommandIO({ json: false, quiet: false, verbose: false, seed: 2 }, out, err)
  const given = {
    batch: 8,
    limit: 32,
    workers: 0,
    threads: 1,
    weightBits: 4,
    activationBits: 4,
    output: at('out.onnx'),
  }
  await def.run([at('net.onnx')], parseOptions(def.options, given, 'ptq'), io)
  assert.match(err.text, /WARNING: quantising on SYNTHETIC inputs/)
  assert.match(err.text, /24 samples to calibrate and train on, 8 to judge/)
  await runRecipe(await loadRecipe(at('out.recipe.json')), { workdir: at('work') })
  assert.deepEqual(readFileSync(at('work/quantised.onnx')), readFileSync(at('out.onnx')))
})
