/** Compressing a small net to a goal, as the command and the library do it. */
import assert from 'node:assert/strict'
import { existsSync, readFileSync } from 'node:fs'
import test from 'node:test'
import { modelInfo } from '../../src/analysis/model-info.ts'
import { MncError } from '../../src/base/errors.ts'
import { parseOptions } from '../../src/base/options.ts'
import { readModel } from '../../src/codec/codec.ts'
import { commands } from '../../src/commands/index.ts'
import { CommandIO } from '../../src/commands/io.ts'
import { type CompressRun, compress } from '../../src/compress/compress.ts'
import type { CompressOptionsInput } from '../../src/compress/compress-options.ts'
import type { CompressEvent } from '../../src/compress/events.ts'
import { openPictures } from '../../src/data/open.ts'
import { evaluate } from '../../src/evaluate/evaluate.ts'
import type { Model } from '../../src/graph/model.ts'
import { loadRecipe } from '../../src/recipes/load.ts'
import { runRecipe } from '../../src/recipes/run.ts'
import { Sink } from '../cli/sink.ts'
import { assertLooks, browser } from '../support/page-looks.ts'
import { pixels } from '../train/fixtures.ts'
import { at, netAndData, quick } from './nets.ts'

const made = netAndData()

async function compressed(name: string, options: CompressOptionsInput, more: Partial<CompressRun> = {}) {
  const { model, net, data } = await made
  const events: CompressEvent[] = []
  const run = {
    data,
    source: net,
    workdir: at(name),
    ...more,
    options: { ...quick, effort: 'fast', ...options },
  } as const
  const result = await compress(model, run, (e) => void events.push(e))
  return { result, events }
}

async function call(args: readonly string[], given: Readonly<Record<string, unknown>>) {
  const def = commands.find((c) => c.name === 'compress')!
  const [out, err] = [new Sink(), new Sink()]
  const io = new CommandIO({ json: false, quiet: false, verbose: false, seed: 0 }, out, err)
  const error = await def.run(args, parseOptions(def.options, given, 'compress'), io).then(
    () => null,
    (e: unknown) => (e instanceof MncError ? e : Promise.reject(e)),
  )
  return { out: out.text, err: err.text, error }
}

test('with labels: the figure is that of the shipped file on the test split, paired with the float model', async () => {
  const { data, model } = await made
  const { result, events } = await compressed('labels', { maxDrop: 0.05 })
  assert.ok(result.verdict.met, result.verdict.misses.join())
  const [testSet, file] = [
    await openPictures(data, 'test'),
    await readModel(at('labels/points', result.chosen.name, 'exported.onnx')),
  ]
  const [float, small] = [
    await evaluate(model, testSet, pixels),
    await evaluate(file, testSet, pixels, { load: { config: {} } }),
  ]
  assert.equal(result.test.float, float.top1)
  assert.ok(Math.abs(result.test.top1! - small.top1) < 1e-9)
  assert.equal(result.test.difference!.samples, 60)
  assert.ok(result.test.difference!.low <= result.test.difference!.drop)
  assert.deepEqual(
    events.filter((e) => e.kind === 'stage').map((e) => e.stage),
    ['look', 'quantise', 'check'],
  )
  const { found } = result
  assert.deepEqual(found.samples, { fitted: 150, held: 50, test: 60 })
  // it knows what it was trained on: samples that are new to it are chosen by
  assert.equal(found.top1, 1)
  assert.equal(typeof found.mixed, 'number')
  assert.equal(result.chosen.held.float, found.mixed)
})

test('the command writes the file, the page and a recipe that gives the same bytes', async () => {
  const { net, data } = await made
  const given = { ...quick, data, maxDrop: '5%', effort: 'fast', output: at('small.onnx') }
  const { out, err, error } = await call([net], given)
  assert.equal(error, null)
  assert.match(err, /samples to work with, 50 to choose by, 60 for the figure/)
  assert.match(err, /meets the goal/)
  assert.match(out, /reached: at most 5 points of accuracy lost, target cpu/)
  const bytes = readFileSync(at('small.onnx'))
  assert.ok(bytes.length < readFileSync(net).length)
  await runRecipe(await loadRecipe(at('small.recipe.json')), { workdir: at('again') })
  assert.deepEqual(readFileSync(at('again/exported.onnx')), bytes)
  const html = readFileSync(at('small.report.html'), 'utf8')
  assert.ok(!/<script|<link|<img|https?:/.test(html))
  for (const part of ['Asked and reached', 'Points', 'Layers of', 'Repeat'])
    assert.ok(html.includes(`<h2>${part}`), part)
  // another point at no cost: nothing is quantised again
  const other = await call([], { resume: at('small.work'), pick: 1, output: at('first.onnx') })
  assert.equal(other.error, null)
  assert.ok(existsSync(at('first.report.html')))
  assert.ok(!/Error/.test(other.err))
})

test('a goal that is not reached: exit 3, the nearest point is written, and what would help is said', async () => {
  const { net, data } = await made
  const given = { ...quick, data, goal: 'macs=1K', effort: 'fast', output: at('tiny.onnx') }
  const { error } = await call([net], given)
  assert.equal(error?.blame, 'gate')
  assert.match(error!.describe(), /more than 1000 MACs.*nearest point.*--time/)
  assert.ok(existsSync(at('tiny.onnx')))
})

test('a goal in bytes between two widths is met by layers of different widths, as small as asked', async () => {
  // more than any width gives: else the fewest bytes would be enough
  const outputs = { labels: false, minCosine: 0.999999 }
  const { result: uniform } = await compressed('split', { ...outputs, goal: 'bytes=1MB' })
  const [four, eight] = ['w4a8', 'w8a8'].map((name) => uniform.points.find((p) => p.name === name)!.bytes)
  const most = Math.round((four! + eight!) / 2)
  const { result, events } = await compressed('split', { ...outputs, goal: `bytes=${most}` })
  const split = result.points.find((p) => p.name === 'mixed-1')!
  assert.ok(split.bytes <= most, `${split.bytes} for ${most}`)
  assert.ok(split.weightBits > 4 && split.weightBits < 8)
  assert.ok(result.chosen.bytes <= most)
  assert.ok(events.some((e) => e.kind === 'stage' && e.stage === 'split'))
  // layers are measured once: another goal finds what they cost
  const other = await compressed('split', { ...outputs, goal: `bytes=${most + 500}` })
  const measured = other.events.filter((e) => e.kind === 'progress' && e.label === 'layers')
  assert.equal(measured.length, 1)
})

test('no bytes are spent where the smallest file loses no more than was asked for', async () => {
  const { result: uniform } = await compressed('settled', { maxDrop: '90%', goal: 'bytes=1MB' })
  const [four, eight] = ['w4a8', 'w8a8'].map((name) => uniform.points.find((p) => p.name === name)!)
  assert.equal(four!.held.difference!.drop, 0)
  const most = Math.round((four!.bytes + eight!.bytes) / 2)
  // as accurate as the float model, then by what is asked of the outputs
  for (const asked of [{}, { labels: false, minCosine: 0.5 }]) {
    const { result, events } = await compressed('settled', { ...asked, goal: `bytes=${most}` })
    assert.equal(result.chosen.name, 'w4a8')
    assert.ok(!events.some((e) => e.kind === 'stage' && e.stage === 'layers'))
  }
})

test('fewer MACs are reached by removing channels and fine-tuning within the time, and the recipe gives the same bytes', async (t) => {
  const { net, data, model } = await made
  const macsOf = async (m: Model): Promise<number> => (await modelInfo(m, { bytes: 0 })).macs!
  const most = Math.round((await macsOf(model)) / 2)
  const given = { ...quick, data, goal: `macs=${most}`, effort: 'fast', time: '2s', output: at('fine.onnx') }
  const { error, err } = await call([net], given)
  assert.equal(error, null, error?.describe())
  assert.match(err, /\[fine-tune\]/)
  assert.ok((await macsOf(await readModel(at('fine.onnx')))) <= most)
  const bytes = readFileSync(at('fine.onnx'))
  await runRecipe(await loadRecipe(at('fine.recipe.json')), { workdir: at('fine-again') })
  assert.deepEqual(readFileSync(at('fine-again/exported.onnx')), bytes)
  // light, dark, wide and narrow, without JavaScript
  if (!browser) return t.diagnostic('no chromium: the page is not looked at')
  const charts = readFileSync(at('fine.report.html'), 'utf8').match(/<svg/g)?.length ?? 0
  assert.ok(charts > 0)
  const titles = ['kB', 'million MACs', 'ms', 'accuracy on samples held out, %', 'layer', 'bits', 'SQNR, dB']
  assert.match(
    readFileSync(at('fine.report.html'), 'utf8'),
    /Signal to noise of each layer's output against the float model/,
  )
  await assertLooks(at('fine.report.html'), { charts, texts: 40, bars: 0, widths: [1400, 400], titles })
})

test('fewer bytes than 4 bits take: zeros, the same for all layers or split, and training behind; the recipe gives the same bytes', async () => {
  const { net, data } = await made
  const { result: dense } = await compressed('split', { maxDrop: '90%', goal: 'bytes=1MB' })
  const most = Math.round(0.9 * dense.points.find((p) => p.name === 'w4a8')!.bytes)
  // the net is sure of its classes: by its outputs what is lost shows, more than training brings back
  const given = {
    ...quick,
    data,
    labels: false,
    minCosine: 0.999999,
    goal: `bytes=${most}`,
    effort: 'fast',
    time: '1s',
    output: at('zeros.onnx'),
  }
  const { error, err } = await call([net], given)
  assert.equal(error?.code, 'goal-missed', error?.describe())
  assert.match(err, /w4a8: [^\n]*, more than/)
  const shared = /(w4a8-s[\d.]+):/.exec(err)![1]!
  const split = /mixed-1:/.test(err)
  assert.ok(split, err)
  const [tuned] = /(w4a8-s[\d.]+|mixed-1)-tuned/.exec(err)!
  const zeros = (await modelInfo(await readModel(at(`zeros.work/points/${shared}/quantised.onnx`)), { bytes: 0 }))
    .layers
  assert.ok(zeros.some((l) => l.sparsity > 0.05))
  // a second leaves no time to measure layers at more than a few widths and shares
  assert.deepEqual(JSON.parse(readFileSync(at('zeros.work/layers-within.json'), 'utf8')), { seconds: 0.2, forms: 3 })
  const point = (file: string): string => at(`zeros.work/points/${tuned}/${file}`)
  const bytes = readFileSync(point('exported.onnx'))
  assert.ok(bytes.length <= most, `${bytes.length} of ${most}`)
  await runRecipe(await loadRecipe(point('recipe.json')), { workdir: at('zeros-again') })
  assert.deepEqual(readFileSync(at('zeros-again/exported.onnx')), bytes)
})

test('without labels the outputs are compared; random inputs do for a model without data', async () => {
  const { result } = await compressed('unlabelled', { labels: false, minCosine: 0.9 })
  assert.equal(result.test.top1, null)
  assert.ok(result.test.cosine > 0.9 && result.test.cosine <= 1)
  const random = await compressed('random', { minCosine: 0.5 }, { data: 'random' })
  assert.ok(random.result.verdict.met)
  await assert.rejects(
    compressed('none', { labels: false, maxDrop: 0.01 }),
    (e: MncError) => e.blame === 'user' && /needs labels/.test(e.message),
  )
})

test('a dry run prints the plan and writes nothing', async () => {
  const { net, data } = await made
  const { out, error } = await call([net], { ...quick, data, dryRun: true, output: at('dry.onnx') })
  assert.equal(error, null)
  assert.match(out, /goal: at most 1 point of/)
  assert.match(out, /quantise after training: w[78]a8, about/)
  assert.ok(!existsSync(at('dry.work')) && !existsSync(at('dry.onnx')))
})

test('a second call in the same folder makes nothing again and gives the same', async () => {
  const first = await compressed('twice', { maxDrop: 0.05, deployBatch: [1, 2] })
  const second = await compressed('twice', { maxDrop: 0.05, deployBatch: [1, 2] })
  assert.ok(first.events.some((e) => e.kind === 'ptq'))
  assert.ok(!second.events.some((e) => e.kind === 'ptq'))
  assert.deepEqual(second.result.points, first.result.points)
  assert.deepEqual(second.result.test, first.result.test)
})

test('what cannot be helped is refused with the reason', async () => {
  const { net } = await made
  const user = (what: RegExp) => (e: MncError | null) => assert.match(e?.describe() ?? '', what)
  user(/no model is given/)((await call([], {})).error)
  user(/--data is missing/)((await call([net], {})).error)
  user(/--pick takes a point/)((await call([net], { pick: 1, data: 'random' })).error)
  user(/is no work folder/)((await call([], { resume: at('nowhere') })).error)
  user(/--deploy-batch: the target size is not picked by measuring/)(
    (await call([net], { data: 'random', target: 'size', deployBatch: [1, 32], output: at('no.onnx') })).error,
  )
  user(/this is no goal/)((await call([net], { data: 'random', goal: 'small', output: at('no.onnx') })).error)
  const stop = new AbortController()
  stop.abort()
  await assert.rejects(compressed('aborted', {}, { signal: stop.signal }), (e: MncError) => e.blame === 'interrupt')
})
