/** Files in float16: half of the bytes, the same interface, and float32 where samples, or constants, need it. */
import assert from 'node:assert/strict'
import { mkdtempSync, rmSync, statSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, test } from 'node:test'
import { checkModels } from '../../src/check/check.ts'
import { writeModel } from '../../src/codec/codec.ts'
import { exportFor } from '../../src/export/targets/export-for.ts'
import type { Value } from '../../src/graph/graph.ts'
import type { Model } from '../../src/graph/model.ts'
import { Tensor } from '../../src/graph/tensor.ts'
import { castType } from '../../src/ops/facts.ts'
import { openDevice } from '../../src/runtime/devices/device.ts'
import { mnc } from '../cli/run-mnc.ts'
import { Net, noise } from './nets.ts'

const folder = mkdtempSync(join(tmpdir(), 'mnc-float16-'))
after(() => rmSync(folder, { recursive: true }))
const at = (name: string): string => join(folder, name)

const FLOATS = { bits: 32, activationBits: 32, sparsity: 0 } as const

interface Factors {
  /** Of the outputs of the second convolution, and of the weights of the third. */
  readonly second?: number
  readonly third?: number
}

/** Convolutions with a branch, a softmax and a product at the end, whose result is an output and is read, too. */
function net(seed: number, { second = 1, third = 1 }: Factors = {}): Model {
  const n = new Net(seed, FLOATS)
  const { b } = n
  const scaled = (name: string, dims: readonly number[], by: number): Value =>
    b.initializer(
      name,
      n.floats(dims, (u) => by * u),
    )
  const conv = (x: Value, w: Value, name: string): Value => b.op('Conv', [x, w], { pads: [1, 1, 1, 1] }, { name })
  const x = n.input([4, 8, 6, 6])
  const a = n.relu(conv(x, scaled('w1', [24, 8, 3, 3], 0.2), 'one'))
  const two = conv(a, scaled('w2', [24, 24, 3, 3], 0.1 * second), 'two')
  const back = b.op('Mul', [two, b.scalar(1 / second)], {}, { name: 'back' })
  const three = conv(back, scaled('w3', [24, 24, 3, 3], 0.1 * third), 'three')
  const sum = b.op('Add', [b.op('Mul', [three, b.scalar(1 / third)]), a])
  const f = b.op('Flatten', [b.op('GlobalAveragePool', [sum])])
  const scores = b.op('MatMul', [f, scaled('fc', [24, 10], 1)], {}, { name: 'scores' })
  n.finish(scores)
  n.model.graph.addOutput(b.op('Softmax', [scores], {}, { name: 'shares', type: { elem: 'float32', dims: [4, 10] } }))
  return n.model
}

const data = (seed: number) => async () => ({
  async *batches() {
    const random = noise(seed)
    yield { x: Tensor.float32([4, 8, 6, 6], Float32Array.from({ length: 4 * 8 * 36 }, random)) }
  },
})

const storedAs = (model: Model): Record<string, string> =>
  Object.fromEntries(
    [...model.graph.initializers()].filter((v) => v.constant!.size > 100).map((v) => [v.name, v.constant!.type]),
  )

/** float16 has 11 digits; sums of a few hundred. */
const TOLERANCE = 0.005

test('weights take half of the bytes, inputs and outputs stay, and the numbers are the same but for rounding', async () => {
  for (const seed of [1, 2]) {
    const given = net(seed)
    const { model, report } = await exportFor(given, { target: 'fp16' }, { calibration: data(seed) })
    assert.deepEqual(new Set(Object.values(storedAs(model))), new Set(['float16']))
    assert.deepEqual(
      [...model.graph.inputs, ...model.graph.outputs].map((v) => [v.name, v.type!.elem]),
      [...given.graph.inputs, ...given.graph.outputs].map((v) => [v.name, v.type!.elem]),
    )
    assert.equal(report.left.weights, 0)
    assert.ok(report.tensors.every((t) => t.storage === 'float16' && t.bytes === 2 * t.elements && t.bits === 16))
    assert.ok(Math.abs(report.bytesPerWeight - 2) < 0.05, String(report.bytesPerWeight))
    // the average and the softmax alone stay wide: their Casts, and those of the input and the output
    assert.ok([...model.graph.nodes()].filter((n) => castType(n)).length <= 5)
    const { maxRelError } = await checkModels(given, model, { seed: 5 })
    assert.ok(maxRelError < TOLERANCE && maxRelError > 0, String(maxRelError))
  }
})

test('what overflows on samples, or has no digits left, stays in float32 with its reason', async () => {
  for (const [factors, wide, reason] of [
    [{ second: 2e5 }, ['w2'], /its values reach .*, too close to float16's 65504/],
    [{ third: 1e-7 }, ['w3'], /below what float16 has digits for/],
  ] as const) {
    const given = net(3, factors)
    const { model, report } = await exportFor(given, { target: 'fp16' }, { calibration: data(3) })
    const types = storedAs(model)
    assert.equal(Object.values(types).filter((t) => t === 'float32').length, wide.length, JSON.stringify(types))
    assert.equal(report.left.largest.length, wide.length)
    for (const l of report.left.largest) assert.match(l.reason, reason)
    const { maxRelError } = await checkModels(given, model, { seed: 5 })
    assert.ok(maxRelError < TOLERANCE, `${JSON.stringify(factors)}: ${maxRelError}`)
  }
  // only the samples tell: inputs a thousand times as large make the first layers overflow
  const large = async () => ({
    async *batches() {
      yield { x: Tensor.float32([4, 8, 6, 6], new Float32Array(4 * 8 * 36).fill(1e5)) }
    },
  })
  const { report } = await exportFor(net(3), { target: 'fp16' }, { calibration: large })
  assert.ok(report.left.weights > 0)
})

test('the command takes samples, warns without them, and halves the file', async () => {
  await writeModel(net(1), at('net.onnx'))
  const { code, err } = await mnc('export', at('net.onnx'), '--target', 'fp16', '-o', at('half.onnx'))
  assert.equal(code, 0, err)
  assert.match(err, /WARNING: overflow is looked for with random inputs: give --data/)
  const [before, now] = [at('net.onnx'), at('half.onnx')].map((p) => statSync(p).size)
  assert.ok(now! < 0.6 * before!, `${now} of ${before}`)
  const random = await mnc('export', at('net.onnx'), '--target', 'fp16', '--data', 'random', '-o', at('again.onnx'))
  assert.equal(random.code, 0, random.err)
})

const webgpu = await openDevice('webgpu').catch(() => null)
const half = webgpu !== null && (webgpu.float16 === undefined || (await webgpu.float16()))

test('WebGPU computes it', { skip: !half && 'no WebGPU with float16' }, async () => {
  const given = net(4)
  const { model } = await exportFor(given, { target: 'fp16' }, { calibration: data(4) })
  const feeds = { x: Tensor.float32([4, 8, 6, 6], Float32Array.from({ length: 4 * 8 * 36 }, noise(9))) }
  const [there, here] = [await webgpu!.load(model), await (await openDevice('cpu')).load(given)]
  const [got, want] = [await there.run(feeds, ['scores']), await here.run(feeds, ['scores'])].map((o) =>
    o.scores!.toFloat32(),
  )
  const most = Math.max(...want!.map(Math.abs))
  assert.ok(Math.max(...got!.map((g, i) => Math.abs(g - want![i]!))) < 0.02 * most)
  for (const s of [there, here]) await s.dispose()
})
