/** Post-training quantisation on networks built here: never worse than quantising alone, labels not read, recipes that repeat it. */
import assert from 'node:assert/strict'
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import test, { after } from 'node:test'
import type { MncError } from '../../src/base/errors.ts'
import { parseOptions } from '../../src/base/options.ts'
import { Rng } from '../../src/base/rng.ts'
import { readModel, writeModel } from '../../src/codec/codec.ts'
import { parseModel } from '../../src/codec/text-parse.ts'
import { commands } from '../../src/commands/index.ts'
import { CommandIO } from '../../src/commands/io.ts'
import { Dataset } from '../../src/data/dataset.ts'
import { readClassOrder } from '../../src/graph/class-names.ts'
import { cloneModel } from '../../src/graph/clone.ts'
import type { Value } from '../../src/graph/graph.ts'
import type { Model } from '../../src/graph/model.ts'
import { Tensor } from '../../src/graph/tensor.ts'
import { weightLayers } from '../../src/layers/layers.ts'
import { runPass } from '../../src/passes/run-pass.ts'
import { Judge } from '../../src/ptq/judge.ts'
import { type PtqEvent, ptq } from '../../src/ptq/ptq.ts'
import type { PtqOptionsInput } from '../../src/ptq/ptq-options.ts'
import { recipeOf } from '../../src/ptq/recipe-of.ts'
import { samplesOf } from '../../src/ptq/samples.ts'
import { loadRecipe, parseRecipe } from '../../src/recipes/load.ts'
import { runRecipe } from '../../src/recipes/run.ts'
import { Sink } from '../cli/sink.ts'
import { Net } from '../export/nets.ts'
import { npy, npz } from '../support/data-files.ts'
import { bytesOf, images, pixels, SIZE, tinyNet } from '../train/fixtures.ts'

const folder = mkdtempSync(join(tmpdir(), 'mnc-ptq-'))
after(() => rmSync(folder, { recursive: true, force: true }))
const at = (name: string): string => join(folder, name)

const quick = { batch: 8, limit: 48, workers: 0, threads: 1 } as const

async function quantised(model: Model, options: PtqOptionsInput, data: Dataset | 'random' = images(60), seed = 0) {
  const events: PtqEvent[] = []
  const preprocess = data === 'random' ? undefined : pixels
  const result = await ptq(model, { data, preprocess, seed, options: { ...quick, ...options } }, (e) => {
    events.push(e)
  })
  return { ...result, events }
}

/** The distance of `quantize` alone, by the pass itself, measured as `ptq` measures. */
async function plain(model: Model, data: Dataset | 'random', options: Readonly<Record<string, unknown>>) {
  const samples = samplesOf(data, quick.limit)
  const judge = await Judge.of(model, await samples.judges(model, quick.batch), 1)
  const copy = cloneModel(model)
  const calibration = await samples.calibration(copy, { limit: samples.fitted, batch: quick.batch })
  await runPass(copy, 'quantize', { ops: ['*'], firstLayer: 'quantize', ...options }, { calibration })
  return (await judge.judge(copy)).distance
}

function inFloat(model: Model): Model {
  const own = cloneModel(model)
  own.metadata.set('mnc.preprocess', JSON.stringify(pixels))
  return own
}

for (const [weightBits, activationBits] of [
  [8, 8],
  [4, 8],
  [3, 4],
] as const)
  test(`W${weightBits}A${activationBits} is nearer to the float model than quantize alone, and says by how much`, async () => {
    const model = inFloat(tinyNet(weightBits))
    const before = bytesOf(model)
    const { distance, steps, model: result } = await quantised(model, { weightBits, activationBits })
    const widths = { layerWeightBits: { 'stem.conv': 8 }, layerActivationBits: { 'stem.conv': 8 } }
    const alone = await plain(model, images(60), { weightBits, activationBits, ...widths })
    assert.ok(distance <= alone * 1.001, `${distance} against ${alone}`)
    assert.deepEqual(bytesOf(model), before, 'the source stays as it is')
    const kept = steps.filter((s) => s.outcome === 'kept' && s.distance !== null)
    assert.equal(kept.at(-1)!.distance, distance)
    const samples = samplesOf(images(60), quick.limit)
    const judge = await Judge.of(model, await samples.judges(model, quick.batch), 1)
    assert.equal((await judge.judge(result)).distance, distance, 'the model that comes back is the one that was judged')
    assert.equal((await judge.judge(model)).distance, 0)
    const bits = weightLayers(result.graph).map((l) => l.quant?.bits)
    assert.deepEqual(bits, [8, weightBits, weightBits])
  })

test('training brings a 3-bit network back', async () => {
  const model = inFloat(tinyNet(2))
  // one that is sure of something
  const weight = model.graph.find('fc.weight')!
  const { dims } = weight.constant!
  weight.setConstant(
    Tensor.float32(
      dims,
      weight.constant!.toFloat32().map((x) => 10 * x),
    ),
  )
  const without = ['equalize', 'round-weights', 'reconstruct', 'correct-bias']
  const { steps } = await quantised(model, { weightBits: 3, activationBits: 4, without })
  const [rounded, refined] = ['quantize', 'refine'].map((name) => steps.find((s) => s.name === name)!)
  assert.equal(refined!.outcome, 'kept')
  assert.ok(refined!.distance! < 0.3 * rounded!.distance!, `${refined!.distance} against ${rounded!.distance}`)
})

test('weights are set to zero first, and the others make up for them: nearer than pruning and quantising give', async () => {
  const model = inFloat(tinyNet(5))
  const bits = { weightBits: 4, activationBits: 8 } as const
  for (const effort of ['fast', 'default'] as const) {
    const own = await quantised(model, { ...bits, effort, sparsity: 0.5, layerSparsity: { fc: 0.25, 'stem.conv': 0 } })
    const zeros = Object.fromEntries(weightLayers(own.model.graph).map((l) => [l.name, zerosOf(l.mask)]))
    assert.equal(zeros['stem.conv'], null)
    assert.ok(Math.abs(zeros.fc! - 0.25) < 0.03, 'five of eighteen')
    assert.ok(Math.abs(Object.values(zeros).filter((s) => s !== null && s > 0.25)[0]! - 0.5) < 0.01)
    assert.deepEqual(
      own.steps.filter((s) => s.outcome === 'kept' && ['prune', 'quantize'].includes(s.name)).map((s) => s.name),
      ['prune', 'quantize'],
    )
    const rounded = own.steps.find((s) => s.name === 'round-weights')!
    assert.equal(rounded.outcome, 'kept')
    const quantize = own.steps.find((s) => s.name === 'quantize')!
    assert.ok(rounded.distance! < 0.8 * quantize.distance!, `${rounded.distance} of ${quantize.distance}`)
    assert.ok(own.distance <= rounded.distance!)
  }
  await assert.rejects(quantised(model, { sparsity: 1 }), /sparsity/)
  await assert.rejects(quantised(model, { layerSparsity: { fcc: 0.5 } }), /fcc/)
})

/** Share of a mask; null without one. */
const zerosOf = (mask: Value | null): number | null =>
  mask ? mask.constant!.toFloat32().filter((x) => x === 0).length / mask.constant!.size : null

test('the same inputs, options and seed give the same bytes, and labels have no part in them', async () => {
  const set = images(60)
  // training is kept, which is what a seed is for
  const without = ['equalize', 'round-weights', 'correct-bias']
  const options = { weightBits: 3, activationBits: 4, without }
  const [a, b, other] = [
    await quantised(tinyNet(2), options, set),
    await quantised(tinyNet(2), options, set),
    await quantised(tinyNet(2), options, set, 7),
  ]
  assert.deepEqual(bytesOf(a.model), bytesOf(b.model))
  assert.notDeepEqual(bytesOf(a.model), bytesOf(other.model))
  const { name, split, classes, channels, height, width } = set
  const labels = set.labels.map((l) => (l + 1) % classes)
  const shuffled = new Dataset({ name, split, classes, channels, height, width, images: set.images, labels })
  assert.deepEqual(bytesOf(a.model), bytesOf((await quantised(tinyNet(2), options, shuffled)).model))
})

test('a step that does harm is taken back', async () => {
  // what is trained on is black, and says nothing about what judges
  const set = images(60)
  set.images.fill(0, 0, 36 * set.imageBytes)
  const { steps, distance, sequence } = await quantised(inFloat(tinyNet(2)), { activationBits: 0 }, set)
  const [rounded, refined] = ['quantize', 'refine'].map((name) => steps.find((s) => s.name === name)!)
  assert.equal(refined!.outcome, 'taken-back')
  assert.ok(refined!.distance! >= rounded!.distance!)
  assert.equal(distance, rounded!.distance)
  assert.equal(sequence.train, null)
})

test('--effort fast does not train, and --without leaves steps out', async () => {
  const fast = await quantised(tinyNet(), { effort: 'fast' })
  assert.ok(!fast.steps.some((s) => s.name === 'refine'))
  const less = await quantised(tinyNet(), { without: ['refine', 'fold-bn'] })
  assert.deepEqual(
    less.steps.filter((s) => s.name === 'refine' || s.name === 'fold-bn'),
    [],
  )
  await assert.rejects(quantised(tinyNet(), { without: ['refin'] }), /did you mean 'refine'/)
})

const severalEnds = (): Model => {
  const rng = new Rng(3)
  const w = (dims: readonly number[]): string =>
    `float32[${dims}] [${Array.from({ length: dims.reduce((x, y) => x * y) }, () => rng.normal().toFixed(3)).join(', ')}]`
  return parseModel(`onnx {ir_version=8}
opset ai.onnx=15
graph "net"
  input %a : float32[N,6]
  input %b : float32[N,4]
  init %v = ${w([6, 8])}
  init %u = ${w([4, 8])}
  init %s = ${w([8, 5])}
  init %t = ${w([8, 3])}
  %x = MatMul(%a, %v) #name "left"
  %y = MatMul(%b, %u) #name "right"
  %z = Add(%x, %y)
  %r = Relu(%z)
  %o = MatMul(%r, %s) #name "scores"
  %p : float32[N,5] = Softmax(%o)
  %q : float32[N,3] = MatMul(%r, %t) #name "boxes"
  output %p
  output %q
end
`)
}

test('models with several inputs and outputs, on random inputs: a distribution and a box are judged by what they are', async () => {
  const model = severalEnds()
  const { criteria, distance, steps } = await quantised(model, { weightBits: 4, activationBits: 8 }, 'random')
  assert.deepEqual(criteria, [
    { output: 'p', loss: 'kl', axis: 1 },
    { output: 'q', loss: 'nmse', axis: null },
  ])
  const widths = Object.fromEntries(['left', 'right'].map((n) => [n, 8]))
  const options = { weightBits: 4, activationBits: 8, layerWeightBits: widths }
  assert.ok(distance <= (await plain(model, 'random', options)))
  assert.ok(steps.some((s) => s.name === 'refine' && s.outcome !== 'failed'))
})

test('a model without layers, one that is quantised already, and too few samples are refused with the reason', async () => {
  const none = parseModel(`onnx {ir_version=8}
opset ai.onnx=15
graph "net"
  input %x : float32[N,4]
  %y : float32[N,4] = Relu(%x)
  output %y
end
`)
  await assert.rejects(quantised(none, {}, 'random'), (e: MncError) => e.blame === 'model' && /layers/.test(e.message))
  const { model } = await quantised(tinyNet(), { effort: 'fast' })
  await assert.rejects(quantised(model, {}), /already quantised to 8 bits/)
  await assert.rejects(quantised(tinyNet(), {}, images(3)), /3 samples are too few/)
})

test('images of classes that are not the outputs serve as well, and name nothing', async () => {
  const set = images(60)
  const { split, channels, height, width } = set
  const one = { name: 'pictures', split, classes: 1, classNames: ['pictures'], channels, height, width }
  const unlabelled = new Dataset({ ...one, images: set.images, labels: new Int32Array(60) })
  const { model, steps } = await quantised(tinyNet(), { weightBits: 4 }, unlabelled)
  assert.ok(steps.every((s) => s.outcome !== 'failed'))
  assert.equal(readClassOrder(model), null)
})

test('an aborted run ends as interrupted', async () => {
  const stop = new AbortController()
  const run = { data: images(60), preprocess: pixels, options: quick, signal: stop.signal }
  const started = ptq(tinyNet(), run, (e) => {
    if (e.kind === 'train' && e.event.kind === 'step') stop.abort()
  })
  await assert.rejects(started, (e: MncError) => e.blame === 'interrupt')
})

/** Both splits of a set of three classes. */
function dataFile(name: string): string {
  const rng = new Rng(4)
  const bytes = (count: number, below: number) => Uint8Array.from({ length: count }, () => rng.integer(below))
  const arrays = { images: npy(bytes(60 * SIZE * SIZE, 256), [60, SIZE, SIZE]), labels: npy(bytes(60, 3), [60]) }
  writeFileSync(at(name), npz(arrays))
  return at(name)
}

async function call(args: readonly string[], given: Readonly<Record<string, unknown>>) {
  const def = commands.find((c) => c.name === 'ptq')!
  const [out, err] = [new Sink(), new Sink()]
  const io = new CommandIO({ json: false, quiet: false, verbose: false, seed: 2 }, out, err)
  await def.run(args, parseOptions(def.options, given, 'ptq'), io)
  return { out: out.text, err: err.text }
}

test('the command writes a model and a recipe, which gives the same bytes', async () => {
  await writeModel(tinyNet(), at('net.onnx'))
  const data = `npz:${dataFile('set.npz')}`
  const given = { ...quick, data, weightBits: 4, activationBits: 4, mean: [0.4], std: [0.3], output: at('out.onnx') }
  const { out, err } = await call([at('net.onnx')], given)
  assert.match(out, /^step +distance +time/)
  assert.match(out, /mnc export .*out\.onnx/)
  assert.match(err, /36 samples to calibrate and train on, 12 to judge/)
  const recipe = await loadRecipe(at('out.recipe.json'))
  await runRecipe(recipe, { workdir: at('work') })
  assert.deepEqual(readFileSync(at('work/quantised.onnx')), readFileSync(at('out.onnx')))
  assert.ok((await readModel(at('out.onnx'))).metadata.get('mnc.preprocess')!.includes('0.4'))
})

test('on random inputs the recipe gives the same bytes too, and measures nothing that needs images', async () => {
  await writeModel(severalEnds(), at('ends.onnx'))
  await call([at('ends.onnx')], { ...quick, data: 'random', weightBits: 4, output: at('ends.q.onnx') })
  const { stages } = await runRecipe(await loadRecipe(at('ends.q.recipe.json')), { workdir: at('ends') })
  assert.deepEqual(readFileSync(at('ends/quantised.onnx')), readFileSync(at('ends.q.onnx')))
  assert.ok(stages.every((s) => s.metrics.eval === null))
  const recipe = JSON.parse(readFileSync(at('ends.q.recipe.json'), 'utf8'))
  recipe.stages[1].eval = { limit: 8 }
  await assert.rejects(parseRecipe(recipe), /eval need.* images, and its data are random/)
})

test('anything that is not data is a usage error', async () => {
  await writeModel(tinyNet(), at('bare.onnx'))
  await assert.rejects(call([at('bare.onnx')], { data: 'synthetics' }), (e: MncError) => e.blame === 'user')
})

test('a recipe holds what was kept, options named as on the command line', () => {
  const sequence = {
    passes: [
      { name: 'fold-bn', options: {}, calibration: null },
      { name: 'quantize', options: { weightBits: 4, only: undefined }, calibration: { limit: 36, batch: 8 } },
    ],
    train: null,
  }
  const facts = { name: 'n', model: 'net', data: 'random', reading: {}, sizes: {}, preprocess: undefined, seed: 0 }
  assert.deepEqual(recipeOf(sequence, facts), {
    ...{ name: 'n', data: 'random' },
    stages: [
      { name: 'float', from: './net', eval: false },
      {
        ...{ name: 'quantised', from: 'float', eval: false },
        passes: [{ 'fold-bn': {} }, { quantize: { 'weight-bits': 4, limit: 36, batch: 8 } }],
      },
    ],
  })
})

test('reconstruct takes the place of round-weights where it brings the outputs nearer; smooth leaves narrow weights alone', async () => {
  const model = inFloat(tinyNet(4))
  const options = { weightBits: 3, activationBits: 2, without: ['refine'], limit: 200 } as const
  const { steps, sequence, distance } = await quantised(model, options, images(200))
  const of = (name: string) => steps.find((s) => s.name === name)!
  assert.equal(of('reconstruct').outcome, 'kept')
  assert.ok(distance < of('round-weights').distance!)
  const names = sequence.passes.map((p) => p.name)
  assert.ok(names.includes('reconstruct') && !names.includes('round-weights'), names.join())
  assert.match(of('smooth').reason!, /weights of 3 bits/)
})

test('what is left out is not done by the step in its place either', async () => {
  const options = { weightBits: 3, activationBits: 0, without: ['refine', 'round-weights'], limit: 200 } as const
  const { sequence } = await quantised(inFloat(tinyNet(4)), options, images(200))
  const reconstruct = sequence.passes.find((p) => p.name === 'reconstruct')
  assert.equal((reconstruct!.options as { start?: string }).start, 'nearest')
})

test('for integer kernels throughout, values between layers are quantised too, and the recipe says so', async () => {
  const net = new Net(4, { bits: 32, sparsity: 0, activationBits: 32 })
  const x = net.input([2, 16, 8, 8])
  const stem = net.relu(net.conv(x, 'stem', 16, 16, 3))
  const sum = net.b.op('Add', [net.conv(net.b.op('HardSwish', [stem]), 'c', 16, 16, 3), stem])
  const model = net.finish(net.conv(sum, 'last', 16, 4, 1))
  const marked = (m: Model): number => [...m.graph.nodes()].filter((n) => n.metadata.has('mnc.output')).length
  const options = { effort: 'fast', without: ['round-weights', 'correct-bias', 'equalize', 'smooth'] } as const
  const alone = await quantised(model, options, 'random')
  const all = await quantised(model, { ...options, integer: true }, 'random')
  assert.equal(marked(alone.model), 0)
  assert.ok(marked(all.model) > 0)
  assert.deepEqual(
    all.sequence.passes.map((p) => p.name).filter((name) => name.startsWith('quantize')),
    ['quantize', 'quantize-outputs'],
  )
  // which every processor multiplies rightly; what is asked for is done
  const bitsOf = ({ model }: typeof all) => [...new Set(weightLayers(model.graph).map((l) => l.quant!.bits))]
  assert.deepEqual([alone, all].map(bitsOf), [[8], [7]])
  assert.deepEqual(bitsOf(await quantised(model, { ...options, integer: true, weightBits: 8 }, 'random')), [8])
})

test('rescue: the layer that quantisation costs most gets 8 bits, then float, and what that takes is said', async () => {
  const model = tinyNet()
  const widths = { weightBits: 3, activationBits: 3, firstLayerBits: 3 }
  const options = {
    ...widths,
    effort: 'fast',
    without: ['fold-bn', 'equalize', 'smooth', 'search-ranges', 'round-weights', 'correct-bias'],
  } as const
  const data = images(60)
  const without = new Map<string, number>()
  for (const { name } of weightLayers(model.graph))
    without.set(name, await plain(inFloat(model), data, { weightBits: 3, activationBits: 3, exclude: [name] }))
  const [worst] = [...without].toSorted((a, b) => a[1] - b[1])
  const none = await quantised(model, options, data)
  assert.deepEqual(none.rescued, [])
  const {
    rescued,
    model: made,
    distance,
    steps,
    events,
    sequence,
  } = await quantised(model, { ...options, rescue: 1 }, data)
  assert.deepEqual(
    rescued.map((r) => [r.layer, r.weightBits, r.activationBits]),
    [[worst![0], [3, 8], [3, 8]]],
  )
  // ranges of inputs are those of the network that is quantised throughout, so not quite what leaving the layer out gives
  assert.ok(rescued[0]!.without < none.distance && rescued[0]!.without < 2 * worst![1], `${rescued[0]!.without}`)
  const layers = weightLayers(made.graph)
  for (const l of layers) assert.equal(l.quant!.bits, l.name === worst![0] ? 8 : 3)
  const own = layers.find((l) => l.name === worst![0])!
  assert.equal(rescued[0]!.bytes, Math.round((own.tensor.size * 5) / 8))
  assert.ok(rescued[0]!.macs! > 0 && rescued[0]!.share! > 0 && rescued[0]!.share! <= 1)
  assert.ok(distance < none.distance, `${distance}, without ${none.distance}`)
  assert.equal(steps.find((s) => s.name === 'rescue')?.outcome, 'kept')
  assert.ok(events.some((e) => e.kind === 'log' && e.message.includes('bytes more')))
  assert.ok(sequence.passes.some((p) => JSON.stringify(p.options).includes('"layerWeightBits"')))
  const wide = { weightBits: 8, activationBits: 8, firstLayerBits: 8 }
  const float = await quantised(model, { ...options, ...wide, rescue: 2 }, data)
  assert.equal(float.rescued.length, 2)
  const left = new Set(float.rescued.map((r) => r.layer))
  for (const l of weightLayers(float.model.graph)) assert.equal(l.quant === null, left.has(l.name))
})
