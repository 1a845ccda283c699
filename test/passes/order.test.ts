/** Passes in any order and more than once: the same result, or a refusal that names the order that works. */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { MncError } from '../../src/base/errors.ts'
import { Rng } from '../../src/base/rng.ts'
import { decodeModel, encodeModel } from '../../src/codec/codec.ts'
import { parseModel } from '../../src/codec/text-parse.ts'
import { exportModel } from '../../src/export/export-model.ts'
import { cloneModel } from '../../src/graph/clone.ts'
import type { Value } from '../../src/graph/graph.ts'
import type { Model } from '../../src/graph/model.ts'
import { weightLayers } from '../../src/layers/layers.ts'
import { quantPairOf } from '../../src/layers/quant-pair.ts'
import { findPass, runPass } from '../../src/passes/run-pass.ts'
import { train } from '../../src/train/loop/trainer.ts'
import { randomGraph } from '../support/random-graph.ts'
import { randomBatches, relativeError, runModel } from './golden.ts'

const ops = ['Conv', 'ConvTranspose', 'Gemm', 'MatMul']
type Step = readonly [pass: string, options: Record<string, unknown>]

async function after(seed: number, steps: readonly Step[]): Promise<Model> {
  const model = randomGraph(seed)
  const layer = weightLayers(model.graph)[0]!.node.op
  for (const [pass, options] of steps) await apply(model, pass, pass === 'freeze' ? { ops: [layer] } : options)
  return decodeModel(encodeModel(model))
}

const apply = (model: Model, pass: string, options: Record<string, unknown>, log = (_: string): unknown => null) =>
  runPass(model, findPass(pass), options, { calibration: randomBatches(model, 1), log: (line) => void log(line) })

/** The mask of each pruned layer, by weight. */
const masksOf = (model: Model): Map<string, Float32Array> =>
  new Map(
    weightLayers(model.graph).flatMap((l) => (l.mask?.constant ? [[l.weight.name, l.mask.constant.toFloat32()]] : [])),
  )

const zeros = (mask: Float32Array): number => mask.filter((m) => m === 0).length

test('pruned again, in any pattern, all zeros stay, the larger sparsity holds, and training keeps both', async () => {
  const patterns: Record<string, unknown>[] = [
    { sparsity: 0.9 },
    { sparsity: 0.5, scope: 'layer' },
    { sparsity: 0.25, pattern: 'channel' },
    { pattern: '2:4' },
    { sparsity: 0.5, pattern: 'channel', scope: 'layer' },
  ]
  let combined = 0
  for (let seed = 0; seed < 12; seed++) {
    const rng = new Rng(seed, 5)
    const model = randomGraph(seed)
    const lines: string[] = []
    const first = patterns[rng.integer(patterns.length)]!
    const second = patterns[rng.integer(patterns.length)]!
    const what = `seed ${seed}: ${JSON.stringify([first, second])}`
    await apply(model, 'prune', { ops, ...first })
    const before = masksOf(model)
    await apply(model, 'prune', { ops, ...second }, (line) => line.includes('pruned before') && lines.push(line))
    const masks = masksOf(model)
    const alone = masksOf(await after(seed, [['prune', { ops, ...second }]]))
    for (const [name, mask] of before) {
      const now = masks.get(name)!
      for (const [i, m] of mask.entries()) assert.ok(m !== 0 || now[i] === 0, `${what}, ${name}: a zero came back`)
    }
    const total = (all: Map<string, Float32Array>): number => [...all.values()].reduce((n, m) => n + zeros(m), 0)
    assert.ok(total(masks) >= Math.max(total(before), total(alone)), what)
    const changed = [...before].some(([name, mask]) => zeros(masks.get(name)!) > zeros(mask))
    assert.equal(lines.length > 0, changed, `${what}: ${lines}`)
    if (changed) combined++
    assert.equal((await apply(model, 'prune', { ops, ...second })).changed, false, `${what}: twice`)
    if (seed % 4 > 0) continue
    const trained = cloneModel(model)
    const options = { maxSteps: 2, batch: 2, loss: 'mse' as const, maskUpdateEvery: 1, maskUpdateUntil: 2 }
    await train(trained, { data: 'random', teacher: { model: randomGraph(seed) }, options })
    assert.ok(total(masksOf(trained)) >= total(masks), `${what}: trained`)
  }
  assert.ok(combined >= 3, `${combined}`)
})

test('a larger sparsity after a smaller one gives the mask of the larger one alone; --replace chooses anew', async () => {
  for (const seed of [1, 2, 3]) {
    const step = (sparsity: number, more = {}): Step => ['prune', { ops, sparsity, ...more }]
    const direct = masksOf(await after(seed, [step(0.8)]))
    assert.deepEqual(masksOf(await after(seed, [step(0.3), step(0.8)])), direct)
    assert.deepEqual(masksOf(await after(seed, [step(0.8), step(0.3)])), direct)
    const fewer = masksOf(await after(seed, [step(0.3)]))
    assert.deepEqual(masksOf(await after(seed, [step(0.8), step(0.3, { replace: true })])), fewer)
  }
})

test('weights that are quantised alone get the scales that pruning first would have given', async () => {
  const scales = (model: Model) => weightLayers(model.graph).map((l) => l.quant?.scale.constant?.toFloat32())
  for (const seed of [4, 5, 6]) {
    const prune: Step = ['prune', { ops, sparsity: 0.6 }]
    for (const weightScale of ['als', 'max']) {
      const quantize: Step = ['quantize', { ops, activationBits: 0, weightScale }]
      assert.deepEqual(scales(await after(seed, [quantize, prune])), scales(await after(seed, [prune, quantize])))
    }
  }
})

/** A value where it is computed: behind no quantiser. */
function root(v: Value): string {
  for (let at = v; ; ) {
    const pair = at.producer && quantPairOf(at.producer)
    if (!pair?.quantize) return at.name
    at = pair.source
  }
}

/** What is rounded, to how many bits in turn, and who reads it. */
function quantisersOf(model: Model): string[] {
  const found: string[] = []
  for (const n of model.graph.nodes()) {
    if (quantPairOf(n)?.quantize && quantPairOf(n)?.axis !== null) continue
    for (const v of n.outputs) {
      let pair = v?.producer && quantPairOf(v.producer)
      if (!v || !pair?.quantize || pair.source.constant) continue
      const widths: number[] = []
      for (; pair?.quantize; pair = pair.source.producer && quantPairOf(pair.source.producer)) widths.push(pair.bits)
      const readers = [...v.uses].filter((r) => r.op !== 'QuantizeLinear').map((r) => r.id)
      if (readers.length > 0) found.push(`${root(v)} ${widths.join(' ')} -> ${readers.sort().join(', ')}`)
    }
  }
  return found.sort()
}

test('outputs quantised before or behind layers: the same quantisers, none twice, and both train and export', async () => {
  let compared = 0
  for (let seed = 0; seed < 200 && compared < 12; seed++) {
    const kinds = [
      'residual',
      'gate',
      'globalPool',
      'concat',
      'batchNorm',
      'maxPool',
      'averagePool',
      'transpose',
      'add',
      'relu',
      'conv',
      'gemm',
    ] as const
    const float = randomGraph(seed, { kinds, steps: 7 })
    const bits = compared % 2 ? 8 : 4
    const layers: Step = [
      'quantize',
      { ops, weightBits: bits, activationBits: bits, firstLayer: 'quantize', calibration: 'max' },
    ]
    const sums: Step = ['quantize-outputs', { bits: 8, calibration: 'max' }]
    const models: Model[] = []
    for (const order of [
      [layers, sums],
      [sums, layers],
    ]) {
      const model = cloneModel(float)
      for (const [pass, options] of order) await apply(model, pass, options)
      models.push(decodeModel(encodeModel(model)))
    }
    const [a, b] = models as [Model, Model]
    if (![...a.graph.nodes()].some((n) => n.metadata.has('mnc.output'))) continue
    compared++
    assert.deepEqual(quantisersOf(a), quantisersOf(b), `seed ${seed}`)
    for (const q of quantisersOf(a)) assert.ok(!/ (\d) \1 ->/.test(q), `seed ${seed}: ${q}`)
    assert.ok(relativeError(await runModel(a), await runModel(b)) < 0.5, `seed ${seed}`)
    if (compared === 3) for (const model of models) await trainAndExport(model, float, `seed ${seed}`)
  }
  assert.equal(compared, 12)
})

async function trainAndExport(model: Model, teacher: Model, what: string): Promise<void> {
  const trained = cloneModel(model)
  const options = { maxSteps: 2, batch: 2, lr: 1e-4, loss: 'mse' as const }
  await train(trained, { data: 'random', teacher: { model: teacher }, options })
  const want = await runModel(trained)
  for (const format of ['packed', 'int4', 'int8'] as const) {
    const { model: file } = await exportModel(trained, { format })
    for (const level of ['disabled', 'all'] as const) {
      const error = relativeError(want, await runModel(file, 1, level))
      // integer kernels of 8-bit sums, and rounding in front of 4-bit quantisers, move a value by whole steps
      const exact = format !== 'int8' && level === 'disabled'
      assert.ok(error < (exact ? 1e-3 : 0.3), `${what}, ${format}, ${level}: ${error}`)
    }
  }
}

test('fold-bn after quantize refuses where it would have folded, before and behind a layer, and only there', async () => {
  let refused = 0
  for (let seed = 0; seed < 40; seed++) {
    const options = { kinds: ['batchNorm', 'conv', 'relu', 'identity', 'maxPool'] as const, steps: 5 }
    const float = randomGraph(seed, options)
    const folds = (await apply(cloneModel(float), 'fold-bn', {})).changed
    const model = cloneModel(float)
    await apply(model, 'quantize', { ops, firstLayer: seed % 2 ? 'quantize' : 'skip-input', calibration: 'max' })
    try {
      await apply(model, 'fold-bn', {})
      assert.equal(folds, false, `seed ${seed}`)
    } catch (e) {
      assert.ok(e instanceof MncError && e.code === 'pass-order', `seed ${seed}: ${e}`)
      assert.match(e.describe(), /fold-bn comes too late: .* is quantised already.*run fold-bn before quantize/s)
      assert.ok(folds, `seed ${seed}`)
      refused++
    }
  }
  assert.ok(refused >= 5, `${refused}`)
})

/** In the order that always works. */
const PASSES: readonly Step[] = [
  ['fold-constants', {}],
  ['widen-floats', {}],
  ['fold-bn', {}],
  ['prune', { ops, sparsity: 0.6 }],
  ['remove-channels', {}],
  ['quantize', { ops, firstLayer: 'quantize' }],
  ['quantize-outputs', {}],
  ['freeze', {}],
]

/** What the passes have done to the layers; weights are what identifies one. */
function factsOf(model: Model): unknown[] {
  return weightLayers(model.graph)
    .map((l) => [
      l.node.op,
      l.tensor.dims.join(),
      l.mask?.constant ? zeros(l.mask.constant.toFloat32()) : 0,
      l.quant?.bits ?? 32,
      l.activationQuant?.bits ?? 32,
      l.node.metadata.get('mnc.frozen') ?? '',
    ])
    .map((f) => f.join(' '))
    .sort()
}

test('random orders of the passes: the same layers and nearly the same outputs, or a refusal that says the order', async () => {
  const SEED = 40
  let same = 0
  let refused = 0
  let trained = 0
  for (let seed = SEED; seed < SEED + 14; seed++) {
    const rng = new Rng(seed, 9)
    const chosen = PASSES.filter(() => rng.chance(0.8))
    const shuffled = rng.shuffle([...chosen])
    const what = `seed ${seed}: ${shuffled.map(([p]) => p).join(', ')}`
    const run = async (steps: readonly Step[]): Promise<Model | null> => {
      try {
        return await after(seed, steps)
      } catch (e) {
        if (!(e instanceof MncError) || e.blame !== 'model') throw e
        assert.equal(e.code, 'pass-order', `${what}: ${e.describe()}`)
        assert.match(e.describe(), /run (prune|fold-bn) before quantize/)
        refused++
        return null
      }
    }
    const want = await run(chosen)
    const got = await run(shuffled)
    if (!want || !got) continue
    same++
    assert.deepEqual(factsOf(got), factsOf(want), what)
    const error = relativeError(await runModel(want), await runModel(got))
    assert.ok(error < 0.3, `${what}: outputs differ by ${error}`)
    // where all layers are frozen there is nothing to train
    const isTrainable = weightLayers(got.graph).some((l) => l.node.metadata.get('mnc.frozen') !== 'true')
    if (isTrainable && trained++ % 5 === 0) await trainAndExport(got, randomGraph(seed), what)
  }
  assert.ok(same >= 4 && refused >= 2 && trained > 0, `${same} the same, ${refused} refused, ${trained} trainable`)
})

test('prune is refused where calibrated activations lie behind its layers, and only there', async () => {
  const input = parseModel(`onnx {ir_version=10}
opset ai.onnx=21
graph "g"
  input %x : float32[N,4]
  init %a = float32[4,4] [${Array.from({ length: 16 }, (_, i) => (i - 7.5) / 10).join(', ')}]
  init %b = float32[4,4] [${Array.from({ length: 16 }, (_, i) => (7.5 - i) / 9).join(', ')}]
  %h = MatMul(%x, %a) #name "first"
  %y : float32[N,4] = MatMul(%h, %b) #name "last"
  output %y
end
`)
  await apply(input, 'quantize', { ops: ['MatMul'], firstLayer: 'quantize' })
  const options = { ops: ['MatMul'], sparsity: 0.5 }
  const early = { ...options, only: ['first'] }
  await assert.rejects(apply(cloneModel(input), 'prune', early), { code: 'pass-order', blame: 'model' })
  const { changed } = await apply(input, 'prune', { ...options, only: ['last'] })
  assert.ok(changed)
})

test('remove-channels before the pruning of channels: the same outputs, and a note that the file stays as large', async () => {
  let [empty, behind] = [0, 0]
  for (let seed = 0; seed < 8; seed++) {
    const channels: Step = ['prune', { pattern: 'channel', sparsity: 0.5, ops }]
    const removal: Step = ['remove-channels', {}]
    const said: string[] = []
    const inOrder = async (steps: readonly Step[]): Promise<Model> => {
      const model = randomGraph(seed)
      for (const [pass, options] of steps) await apply(model, pass, options, (line) => said.push(line))
      return model
    }
    const [early, late] = [await inOrder([removal, channels]), await inOrder([channels, removal])]
    assert.ok(relativeError(await runModel(early, seed), await runModel(late, seed)) < 1e-4, `seed ${seed}`)
    if (encodeModel(late).byteLength < encodeModel(early).byteLength) {
      assert.ok(
        said.some((line) => /after `prune --pattern channel`/.test(line)),
        `seed ${seed}: ${said}`,
      )
      empty++
    }
    // pruned again behind a removal that found something
    const again: string[] = []
    const removed = late.metadata.get('mnc.history')!.includes('remove-channels')
    await apply(late, 'prune', { pattern: 'channel', sparsity: 0.75, ops }, (line) => again.push(line))
    const changed = late.metadata.get('mnc.history')!.split('insert-prune-mask').length > 2
    const advised = again.some((line) => /remove-channels ran before/.test(line))
    assert.equal(advised, removed && changed, `seed ${seed}: ${again}`)
    if (advised) behind++
  }
  assert.ok(empty > 0 && behind > 0, `${empty} and ${behind}`)
})
