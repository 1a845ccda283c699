/** BatchNormalization in training mode, in every form that a file can hold it: found, upgraded as it is, brought out of it. */
import assert from 'node:assert/strict'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import test, { after } from 'node:test'
import fc from 'fast-check'
import { Rng } from '../../src/base/rng.ts'
import { decodeModel, encodeModel, writeModel } from '../../src/codec/codec.ts'
import { runCommandLine } from '../../src/commands/program.ts'
import { evaluate } from '../../src/evaluate/evaluate.ts'
import { exportModel } from '../../src/export/export-model.ts'
import { cloneModel } from '../../src/graph/clone.ts'
import { Graph, type Value } from '../../src/graph/graph.ts'
import { Model } from '../../src/graph/model.ts'
import { Tensor } from '../../src/graph/tensor.ts'
import { trainingWarning } from '../../src/layers/training-mode.ts'
import { runPass } from '../../src/passes/run-pass.ts'
import { ortExecutor } from '../../src/runtime/ort/ort.ts'
import { updateBatchNorm } from '../../src/train/loop/bn-update.ts'
import { Sink } from '../cli/sink.ts'
import { checkerIr, checkFiles } from '../support/onnx-checker.ts'
import { images, losses, pixels, tinyNet, run as trained } from '../train/fixtures.ts'

const CHANNELS = 4

/** How a file of an opset says that a node is in training mode. */
interface Form {
  readonly opset: number
  /** Where the node stands. */
  readonly where: 'graph' | 'function' | 'body'
  /** Which of its statistics are read: 1 and 2 are the running ones that it moves. */
  readonly read: readonly number[]
  readonly seed: number
}

const outputsOf = ({ opset }: Form): number => (opset < 7 ? 1 : opset < 14 ? 5 : 3)

/** x [N, 4, 3, 3] -> Conv -> BatchNormalization in training mode -> mean over positions [N, 4]. */
function network(form: Form): Model {
  const { opset, where, read, seed } = form
  const rng = new Rng(seed)
  const graph = new Graph('net')
  const model = new Model(graph, opset)
  if (opset >= 9) model.irVersion = 8
  const draw = (name: string, dims: number[], low = -1): Value =>
    graph.addInitializer(
      name,
      Tensor.float32(
        dims,
        Array.from({ length: dims.reduce((a, b) => a * b) }, () => rng.uniform(low, 1.5)),
      ),
    )
  const x = graph.addInput('x', { elem: 'float32', dims: ['N', 3, 3, 3] })
  const h = graph.append().op('Conv', [x, draw('w', [CHANNELS, 3, 1, 1])], {}, { name: 'conv' })
  const parameters = ['scale', 'bias', 'mean', 'var'].map((n) => draw(n, [CHANNELS], n === 'var' ? 0.5 : -1))
  const norm = (g: Graph, inputs: readonly Value[]): Value => {
    const attributes = opset >= 14 ? { training_mode: 1 } : opset < 6 ? { consumed_inputs: [0, 0, 0, 1, 1] } : {}
    const names = ['normalised', 'o1', 'o2', 'o3', 'o4'].slice(0, outputsOf(form))
    const node = g.append().node({ op: 'BatchNormalization', name: 'norm', inputs, outputs: names, attributes })
    if (where === 'graph')
      for (const i of read) {
        node.outputs[i]!.setType({ elem: 'float32', dims: [CHANNELS] })
        g.addOutput(node.outputs[i]!)
      }
    return node.output
  }
  let y: Value
  if (where === 'graph') y = norm(graph, [h, ...parameters])
  else if (where === 'body') {
    const yes = graph.addInput('yes', { elem: 'bool', dims: [] })
    const branch = (name: string, make: (g: Graph) => Value): Graph => {
      const g = new Graph(name, graph)
      g.addOutput(make(g))
      return g
    }
    const other = branch('else', (g) => g.append().op('Neg', [h]))
    const choice = graph.append().node({ op: 'If', inputs: [yes], outputs: ['chosen'] })
    choice.setAttribute('then_branch', { kind: 'graph', value: branch('then', (g) => norm(g, [h, ...parameters])) })
    choice.setAttribute('else_branch', { kind: 'graph', value: other })
    y = choice.output
  } else {
    const body = new Graph('Norm')
    body.addOutput(
      norm(
        body,
        ['a', 's', 'b', 'm', 'v'].map((n) => body.addInput(n, null)),
      ),
    )
    const opsets = new Map([['', opset]])
    model.functions.push({
      ...{ domain: 'own', name: 'Norm', overload: '', attributes: [], opsets, graph: body, extra: undefined },
    })
    model.opsets.set('own', 1)
    y = graph.append().op('Norm', [h, ...parameters], {}, { domain: 'own' })
  }
  const pooled = graph.append().op('GlobalAveragePool', [y])
  graph.addOutput(
    graph.append().op('Flatten', [pooled], {}, { name: 'y', type: { elem: 'float32', dims: ['N', CHANNELS] } }),
  )
  return decodeModel(encodeModel(model))
}

const forms: fc.Arbitrary<Form> = fc
  .record({
    opset: fc.constantFrom(7, 9, 13, 14, 15, 17, 21),
    where: fc.constantFrom('graph', 'graph', 'function', 'body'),
    read: fc.subarray([1, 2]),
    seed: fc.nat(1e6),
  })
  // functions came with IR 8
  .map((f): Form => ({ ...f, where: f.where === 'function' && f.opset < 13 ? 'graph' : f.where }))

async function run(model: Model, x: Tensor): Promise<Record<string, Tensor>> {
  const session = await ortExecutor().load(model, { optimization: 'disabled' })
  const yes = Tensor.of('bool', [], Uint8Array.of(1))
  try {
    return await session.run({ x, ...(model.graph.find('yes') && { yes }) })
  } finally {
    await session.dispose()
  }
}

const batchOf = (n: number, seed: number): Tensor => {
  const rng = new Rng(seed)
  return Tensor.float32(
    [n, 3, 3, 3],
    Array.from({ length: n * 27 }, () => rng.normal()),
  )
}
const firstRow = (t: Tensor): number[] => Array.from(t.toFloat32().slice(0, CHANNELS))
const distance = (a: readonly number[], b: readonly number[]): number =>
  Math.max(...a.map((v, i) => Math.abs(v - b[i]!)))

/** By hand: the 1x1 convolution, running statistics, the mean over positions. */
function expected(model: Model, x: Tensor): number[] {
  const values = (name: string): Float32Array => model.graph.find(name)!.constant!.toFloat32()
  const [w, scale, bias, mean, variance] = ['w', 'scale', 'bias', 'mean', 'var'].map(values)
  const v = x.toFloat32()
  return Array.from({ length: CHANNELS }, (_, c) => {
    let h = 0
    for (let i = 0; i < 3; i++) for (let p = 0; p < 9; p++) h += (w![c * 3 + i]! * v[i * 9 + p]!) / 9
    return ((h - mean![c]!) / Math.sqrt(variance![c]! + 1e-5)) * scale![c]! + bias![c]!
  })
}

test('infer-bn: the output of a sample no longer depends on its batch', () =>
  fc.assert(
    fc.asyncProperty(forms, async (form) => {
      const source = network(form)
      assert.match(trainingWarning(source) ?? '', /^WARNING: 1 BatchNormalization node is in training mode \('norm'\)/)
      const x = batchOf(3, form.seed + 1)
      const alone = new Tensor('float32', [1, 3, 3, 3], x.bytes.slice(0, 27 * 4))
      // onnxruntime has a kernel for the training form from opset 9 on
      if (form.opset >= 9) {
        const [all, one] = [await run(source, x), await run(source, alone)]
        assert.ok(distance(firstRow(all.y!), firstRow(one.y!)) > 1e-3, 'the batch counts before')
      }
      const model = cloneModel(source)
      const log: string[] = []
      const { changed } = await runPass(model, 'infer-bn', {}, { log: (line) => void log.push(line) })
      assert.ok(changed)
      assert.deepEqual(log, [])
      assert.equal(trainingWarning(model), null)
      assert.equal((await runPass(model, 'infer-bn')).changed, false)
      const written = decodeModel(encodeModel(model))
      const [all, one] = [await run(written, x), await run(written, alone)]
      assert.ok(distance(firstRow(all.y!), firstRow(one.y!)) < 1e-5, 'the batch no longer counts')
      assert.ok(distance(firstRow(all.y!), expected(written, x)) < 1e-4, 'running statistics')
      // statistics that were given out are the running ones
      if (form.where === 'graph')
        for (const i of form.read) {
          const name = i === 1 ? 'mean' : 'var'
          assert.deepEqual(all[`o${i}`]!.toFloat32(), written.graph.find(name)!.constant!.toFloat32())
        }
    }),
    { numRuns: 40, seed: 2 },
  ))

test('upgrade-opset leaves training mode on', () =>
  fc.assert(
    fc.asyncProperty(forms, async (form) => {
      const source = network(form)
      const model = cloneModel(source)
      await runPass(model, 'upgrade-opset', { to: 21 })
      assert.notEqual(trainingWarning(model), null)
      if (form.opset < 9) return
      const x = batchOf(3, form.seed)
      const [before, now] = [await run(source, x), await run(model, x)]
      for (const [name, t] of Object.entries(before))
        assert.ok(distance([...t.toFloat32()], [...now[name]!.toFloat32()]) < 1e-5, name)
    }),
    { numRuns: 30, seed: 3 },
  ))

test('before opset 7 it is the attribute is_test, and the file stays valid', async (t) => {
  const files: Uint8Array[] = []
  for (const opset of [1, 5, 6]) {
    const model = network({ opset, where: 'graph', read: [], seed: opset })
    assert.notEqual(trainingWarning(model), null)
    await runPass(model, 'infer-bn')
    assert.equal(trainingWarning(model), null)
    await runPass(model, 'fold-bn')
    assert.ok(![...model.graph.nodes()].some((n) => n.op === 'BatchNormalization'))
    files.push(encodeModel(model))
  }
  if (checkerIr() === null) return t.skip('python3-onnx is not there')
  assert.deepEqual(
    checkFiles(files),
    files.map(() => 'valid'),
  )
})

test('exports leave training mode on, and say so once', () =>
  fc.assert(
    fc.asyncProperty(forms, fc.constantFrom('packed', 'int4', 'int8'), async (form, format) => {
      const source = network({ ...form, read: [] })
      const log: string[] = []
      const { model } = await exportModel(source, { format }, { log: (line) => void log.push(line) })
      assert.equal(log.filter((line) => line.includes('training mode')).length, 1)
      if (form.opset < 9) return
      const x = batchOf(3, form.seed)
      assert.ok(distance(firstRow((await run(source, x)).y!), firstRow((await run(model, x)).y!)) < 1e-3)
    }),
    { numRuns: 15, seed: 4 },
  ))

const folder = mkdtempSync(join(tmpdir(), 'mnc-infer-bn-'))
after(() => rmSync(folder, { recursive: true }))
const at = (name: string): string => join(folder, name)

for (const [what, args] of Object.entries({
  info: ['info', 'IN'],
  score: ['score', 'IN'],
  check: ['check', 'CLEAN', 'IN'],
  'fold-bn': ['pass', 'fold-bn', 'IN', '-o', 'OUT'],
  prune: ['pass', 'prune', '--ops', 'Conv', 'IN', '-o', 'OUT'],
  quantize: ['pass', 'quantize', '--ops', 'Conv', '--data', 'random', 'IN', '-o', 'OUT'],
  export: ['export', 'IN', '-o', 'OUT'],
  train: ['train', 'IN', '--teacher', 'CLEAN', '--data', 'random', '--max-steps', '1', '--batch', '2', '-o', 'OUT'],
}))
  test(`${what} says that a model is in training mode, once`, async () => {
    const model = network({ opset: 15, where: 'graph', read: [], seed: 1 })
    await writeModel(model, at('in.onnx'))
    await runPass(model, 'infer-bn')
    await writeModel(model, at('clean.onnx'))
    const paths: Readonly<Record<string, string>> = { IN: at('in.onnx'), CLEAN: at('clean.onnx'), OUT: at('out.onnx') }
    const run = async (list: readonly string[]): Promise<{ code: number; err: string }> => {
      const [stdout, stderr] = [new Sink(), new Sink()]
      const code = await runCommandLine(list, { stdout, stderr })
      return { code, err: stderr.text }
    }
    const { code, err } = await run(args.map((a) => paths[a] ?? a))
    assert.equal(err.match(/training mode/g)?.length, 1, err)
    assert.match(err, /infer-bn/)
    assert.ok([0, 2, 3].includes(code), err)
    const clean = await run(args.map((a) => (a === 'IN' ? at('clean.onnx') : (paths[a] ?? a))))
    assert.doesNotMatch(clean.err, /training mode/)
  })

/** A classifier as an exporter writes it in training mode. */
function trainingNet(): Model {
  const model = tinyNet(3)
  for (const n of model.graph.nodes()) {
    if (n.op !== 'BatchNormalization') continue
    n.setAttribute('training_mode', 1)
    for (const what of ['mean', 'var']) n.addOutput(`${n.name}.${what}`)
  }
  return model
}

test('eval does not depend on the batch with infer-bn, and uses the running statistics', async () => {
  const model = trainingNet()
  const lossesOf = async (m: Model): Promise<number[]> =>
    Promise.all([1, 4, 12].map(async (batch) => (await evaluate(m, images(24), pixels, { batch })).loss))
  const before = await lossesOf(model)
  await runPass(model, 'infer-bn')
  const now = await lossesOf(model)
  assert.ok(Math.max(...now) - Math.min(...now) < 1e-6, now.join(' '))
  assert.ok(Math.abs(now[0]! - before[0]!) > 1e-3)
  const reference = await lossesOf(tinyNet(3))
  assert.ok(Math.abs(now[0]! - reference[0]!) < 1e-6)
})

test('training and bn-update do the same with and without training mode, and report it', async () => {
  const [model, clean] = [trainingNet(), trainingNet()]
  await runPass(clean, 'infer-bn')
  for (const bn of ['batch', 'frozen'] as const) {
    const [a, b] = [await trained(model, { epochs: 1, bn }), await trained(clean, { epochs: 1, bn })]
    assert.deepEqual(losses(a.events), losses(b.events))
    const warnings = a.events.flatMap((e) => (e.kind === 'start' ? e.warnings : []))
    assert.equal(warnings.length, 1)
    assert.match(warnings[0]!, /2 BatchNormalization nodes are in training mode/)
    assert.deepEqual(
      b.events.flatMap((e) => (e.kind === 'start' ? e.warnings : [])),
      [],
    )
  }
  const said: string[] = []
  const common = { data: images(24), preprocess: pixels, batch: 8, augment: 'none' }
  await updateBatchNorm(model, { ...common, onWarning: (w) => void said.push(w) })
  await updateBatchNorm(clean, common)
  assert.equal(said.length, 1)
  for (const v of clean.graph.initializers())
    assert.deepEqual(model.graph.find(v.name)!.constant!.toFloat32(), v.constant!.toFloat32(), v.name)
})
