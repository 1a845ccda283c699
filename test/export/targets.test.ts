/** Every target: its file is read by what it is for, has the structure that this asks for, and computes what the graph computes. */
import assert from 'node:assert/strict'
import { existsSync, mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, test } from 'node:test'
import { parseReader, readersOf, refusalOf } from '../../src/analysis/readers.ts'
import { checkModels } from '../../src/check/check.ts'
import { writeModel } from '../../src/codec/codec.ts'
import { exportFor } from '../../src/export/targets/export-for.ts'
import { fastestIn } from '../../src/export/targets/fastest.ts'
import { targets } from '../../src/export/targets/index.ts'
import type { Graph } from '../../src/graph/graph.ts'
import type { Model } from '../../src/graph/model.ts'
import { biasOf, dequantizeBehind, isDequantize, isQuantize } from '../../src/ops/facts.ts'
import { weightSlots } from '../../src/ops/index.ts'
import { mnc } from '../cli/run-mnc.ts'
import { isCutOff } from '../support/cut-off.ts'
import { Net, type NetOptions, smallNet } from './nets.ts'

const folder = mkdtempSync(join(tmpdir(), 'mnc-targets-'))
after(() => rmSync(folder, { recursive: true }))
const at = (name: string): string => join(folder, name)

/** Convolutions between quantisers alone, one with channels of negative scales by its normalisation, and a Gemm. */
function chain(seed: number, options: NetOptions): Model {
  const n = new Net(seed, { sparsity: 0, ...options })
  const x = n.act(n.input([2, 8, 6, 6]), 0.02)
  const a = n.act(n.relu(n.conv(x, 'a', 8, 16, 3, { bias: true })))
  const y = n.conv(a, 'b', 16, 24, 1)
  const scale = n.floats([24], (u) => (u < 0 ? -1 : 1))
  const zeros = n.floats([24], () => 0)
  const parts = [scale, zeros, zeros, n.floats([24], () => 1)].map((t, i) => n.b.initializer(`norm.${i}`, t))
  const c = n.act(n.b.op('BatchNormalization', [y, ...parts], {}, { name: 'normed' }), 0.2)
  const f = n.b.op('Flatten', [n.b.op('GlobalAveragePool', [c])])
  const g = n.act(f, 0.01)
  return n.finish(n.b.op('Gemm', [g, n.weight('fc', [10, 24], 0)], { transB: 1 }, { name: 'logits' }))
}

const graphs: readonly (readonly [string, () => Model])[] = [
  ['8 bits', () => chain(1, { bits: 8, activationBits: 8 })],
  ['8 bits, signed', () => chain(2, { bits: 8, activationBits: 8, signedActivations: true })],
  ['4 bits', () => chain(3, { bits: 4, activationBits: 4 })],
  ['3-bit weights', () => chain(4, { bits: 3, activationBits: 8 })],
  ['a float layer, sums, normalisations', () => smallNet(5, { bits: 4, activationBits: 8 })],
]

/** Rounding is taken away, or made coarser, by what the target is. */
const LOOSE = { tensorrt: 0.1, cpu: 0.1 } as const
/** A level of the last quantiser by float rounding. */
const TOLERANCE = 0.03

for (const [name, graph] of graphs)
  test(`every target of ${name}`, async () => {
    // measuring takes seconds
    const measured = name === '4 bits'
    for (const target of targets.filter((t) => t.quantised && (measured || t.pick !== 'fastest'))) {
      const { model, report, picked } = await exportFor(graph(), { target: target.name })
      const readings = readersOf(model)
      for (const reader of target.readers) assert.equal(refusalOf(readings, parseReader(reader)), null, target.name)
      assert.ok(picked && target.forms.some((f) => f.options.format === report.format), target.name)
      const { byOptimisation } = await checkModels(graph(), model, { seed: 7 })
      const most = Object.entries(LOOSE).find(([t]) => t === target.name)?.[1] ?? TOLERANCE
      // plain pairs for other readers have INT8 weights: here their sums may be cut off
      const levels = Object.entries(byOptimisation).slice(0, (await isCutOff(model)) ? 1 : undefined)
      for (const [level, { maxRelError }] of levels)
        assert.ok(maxRelError < most, `${target.name}, ${level}: ${maxRelError}`)
    }
  })

/** What no pair may break for readers of plain pairs: faults. */
function faultsOf({ graph }: Model, symmetric: boolean): string[] {
  const faults: string[] = []
  const say = (is: boolean, what: string): void => void (is || faults.push(what))
  for (const n of graph.nodes()) {
    if (isQuantize(n)) say([...n.output.uses].every(isDequantize), `${n.label}: read by others than DequantizeLinear`)
    if (isQuantize(n) || isDequantize(n)) {
      const [scale, zero] = [n.input(1).constant!, n.inputs[2]?.constant]
      say(n.input(0).constant !== null || scale.size === 1, `${n.label}: activations have a scale for each channel`)
      if (symmetric) {
        say(
          Array.from(scale.toNumbers()).every((s) => s > 0),
          `${n.label}: a scale is not positive`,
        )
        say(
          Array.from(zero?.toNumbers() ?? []).every((z) => z === 0),
          `${n.label}: a zero point`,
        )
        say([undefined, 'int8'].includes(zero?.type), `${n.label}: ${zero?.type}`)
      }
    }
  }
  for (const { weight, bias, isFed, label, outputs } of layersIn(graph)) {
    if (!weight) continue
    say(weight.input(0).constant!.type === 'int8', `${label}: ${weight.input(0).constant!.type} weights`)
    say(weight.input(1).constant!.size === outputs, `${label}: not a scale for each channel`)
    if (!symmetric) continue
    say(isFed, `${label}: its input is not quantised, its weights are`)
    say(!bias || bias.constant?.type === 'float32', `${label}: its bias is no float constant`)
  }
  return faults
}

function layersIn(graph: Graph) {
  return [...graph.nodes()].flatMap((node) => {
    const slot = weightSlots(node)[0]
    if (!slot) return []
    const weight = dequantizeBehind(node.input(slot.input))
    const outputs = weight?.input(0).constant?.dims[slot.outputAxis(node) ?? 0]
    const isFed = dequantizeBehind(node.input(0)) !== null
    return [{ weight, bias: biasOf(node), isFed, label: node.label, outputs }]
  })
}

test('files of plain pairs have the structure that their readers ask for', async () => {
  for (const [name, graph] of graphs)
    for (const target of ['opset13', 'openvino', 'tensorrt']) {
      const { model } = await exportFor(graph(), { target })
      assert.equal(model.opset, 13)
      assert.deepEqual(faultsOf(model, target === 'tensorrt'), [], `${name}, ${target}`)
      const layers = layersIn(model.graph)
      assert.ok(layers.some((l) => l.weight && l.isFed))
    }
  // and the check finds what an int8 file, which is made for onnxruntime, has of it
  const { model } = await exportFor(chain(1, { bits: 8, activationBits: 8 }), { format: 'int8' })
  assert.ok(faultsOf(model, true).length > 0)
})

test('unsigned activations are told where they lose levels, and signed ones keep them', async () => {
  for (const [signedActivations, told] of [
    [false, true],
    [true, false],
  ] as const) {
    const graph = chain(1, { bits: 8, activationBits: 8, signedActivations })
    const { report } = await exportFor(graph, { target: 'tensorrt' })
    assert.equal(
      report.inexact.some((l) => /half of their levels/.test(l.reason)),
      told,
    )
  }
})

test('a reader decides which forms may be written', async () => {
  const graph = () => chain(3, { bits: 4, activationBits: 4 })
  const plain = await exportFor(graph(), { target: 'size' })
  assert.ok(plain.picked!.tried.some((t) => t.form.includes('int4') && /int4|uint4/.test(t.refused ?? '')))
  const newer = await exportFor(graph(), { target: 'size', reader: 'onnxruntime>=1.24' })
  assert.ok(newer.picked!.tried.every((t) => t.refused === null))
  assert.ok(newer.report.bytes <= plain.report.bytes)
  await assert.rejects(exportFor(graph(), { format: 'int4', reader: 'opencv' }), /OpenCV does not read/)
  await assert.rejects(exportFor(graph(), { format: 'int4', reader: 'onnxruntime>=1.19' }), /needs onnxruntime 1\.20/)
  await exportFor(graph(), { format: 'int4', reader: 'onnxruntime>=1.20' })
  await assert.rejects(exportFor(graph(), { format: 'packed', reader: 'onnxruntime>=1.9' }), /not tried before 1\.16/)
  for (const reader of ['tflite', 'onnxruntime>1.2', ''])
    await assert.rejects(exportFor(graph(), { target: 'size', reader }), /is no reader/)
  await assert.rejects(exportFor(graph(), { target: 'size', format: 'int8' }), /decides on the format/)
  await assert.rejects(exportFor(graph(), { target: 'size', batch: [32] }), /--batch: the target size is not picked by/)
  await assert.rejects(exportFor(graph(), { format: 'int8', threads: [1, 0] }), /--threads: a format is not picked by/)
})

test('the fastest form is the first that no other beats beyond the noise, and none that is slower than floats anywhere', () => {
  const at = (low: number, high: number) => ({ low, median: (low + high) / 2, high })
  for (const [speedups, index] of [
    [[[at(0.9, 1.2)], [at(0.5, 0.6)], [null]], 0],
    // as fast as the noise tells, but the likelier slower
    [[[at(0.7, 1.2)], [at(0.9, 1.06)], [null]], 1],
    [[[at(0.9, 1.1)], [at(1.05, 1.2)], [null]], 0],
    [[[at(0.93, 1.02)], [at(1.05, 1.2)], [null]], 1],
    [[[at(1.1, 1.15)], [at(1.2, 1.25)], [null]], 1],
    [[[at(0.7, 0.9)], [at(0.8, 0.95)], [null]], 2],
    // twice as fast on one thread, slower on all cores
    [
      [
        [at(2, 2.2), at(0.8, 0.9)],
        [at(1.1, 1.2), at(0.95, 1.1)],
        [null, null],
      ],
      1,
    ],
    [
      [
        [at(2, 2.2), at(0.8, 0.9)],
        [null, null],
      ],
      1,
    ],
    [[[null]], 0],
  ] as const)
    assert.equal(fastestIn(speedups), index, JSON.stringify(speedups))
})

test('short names: the names before are written on request, and checks by layer find them', async () => {
  const graph = chain(1, { bits: 8, activationBits: 8 })
  await writeModel(graph, at('graph.onnx'))
  const [bare, named] = [at('bare.onnx'), at('named.onnx')]
  assert.equal((await mnc('export', at('graph.onnx'), '--target', 'size', '-o', bare)).code, 0)
  assert.ok(!existsSync(at('bare.names.json')))
  assert.equal((await mnc('export', at('graph.onnx'), '--target', 'size', '--names', '-o', named)).code, 0)
  assert.deepEqual(readFileSync(bare), readFileSync(named))
  const layers = async (file: string): Promise<readonly { name: string; maxRelError: number }[]> => {
    const { code, out, err } = await mnc('check', at('graph.onnx'), file, '--layers', '--json')
    assert.equal(code, 0, err)
    return JSON.parse(out).layers
  }
  assert.deepEqual(
    (await layers(bare)).map((l) => l.name),
    ['logits'],
  )
  const found = await layers(named)
  assert.ok(found.length > 3 && found.every((l) => l.maxRelError < TOLERANCE))
})

test('a float network is sent to be quantised first, and said why a form was picked', async () => {
  const n = new Net(1, { bits: 32, activationBits: 32, sparsity: 0 })
  await writeModel(n.finish(n.conv(n.input([1, 8, 6, 6]), 'c', 8, 16, 3)), at('float.onnx'))
  for (const { name } of targets.filter((t) => t.quantised)) {
    const { code, err } = await mnc('export', at('float.onnx'), '--target', name, '-o', at('no.onnx'))
    assert.equal(code, 2, err)
    assert.match(err, /compresses nothing.*quantise the network first: mnc ptq/)
    assert.ok(!existsSync(at('no.onnx')))
  }
  await writeModel(chain(1, { bits: 8, activationBits: 8 }), at('q.onnx'))
  const { err, out } = await mnc(
    'export',
    at('q.onnx'),
    '--target',
    'cpu',
    '--threads',
    '1,0',
    '--json',
    '-o',
    at('q.cpu.onnx'),
  )
  assert.match(err, /target cpu: --format \w+.* ms on one thread here.* ms on all cores here/)
  const { picked } = JSON.parse(out)
  assert.ok(
    picked.tried.length >= 3 &&
      picked.tried.every(
        (t: { timed: readonly object[] | null; refused: string | null }) => t.refused !== null || t.timed?.length === 2,
      ),
  )
})
