/**
 * Zeros stay zeros: whatever is done to a pruned model afterwards, the weights that its layers get in onnxruntime are
 * zero where they were.
 */
import assert from 'node:assert/strict'
import test from 'node:test'
import { Rng } from '../../src/base/rng.ts'
import { exportModel } from '../../src/export/export-model.ts'
import { cloneModel } from '../../src/graph/clone.ts'
import type { Node } from '../../src/graph/graph.ts'
import type { Model } from '../../src/graph/model.ts'
import { Tensor } from '../../src/graph/tensor.ts'
import { removeDead } from '../../src/passes/eliminate-dead.ts'
import { passes } from '../../src/passes/index.ts'
import { findPass, runPass as pass } from '../../src/passes/run-pass.ts'
import { ortExecutor } from '../../src/runtime/ort/ort.ts'
import { updateBatchNorm } from '../../src/train/loop/bn-update.ts'
import { randomFeeds } from '../passes/golden.ts'
import { images, pixels, run, tinyNet } from './fixtures.ts'

const isLayer = (n: Node): boolean => n.op === 'Conv' || n.op === 'Gemm'

/** What each convolution and fully connected layer is given as its weight, in graph order, by running the model. */
async function operands(model: Model): Promise<Tensor[]> {
  const copy = cloneModel(model)
  const { graph } = copy
  const weights = [...graph.nodes()].filter(isLayer).map((n) => n.input(1))
  const given = weights.map((v) => v.constant)
  for (const v of [...graph.outputs]) graph.removeOutput(v)
  const asked = weights.filter((v) => !v.constant)
  for (const v of asked) graph.addOutput(v)
  if (asked.length === 0) return given.map((t) => t!)
  removeDead(graph)
  const session = await ortExecutor().load(copy, { optimization: 'disabled', threads: 1 })
  try {
    const out = await session.run(randomFeeds(copy, 1))
    return weights.map((v, i) => given[i] ?? out[v.name]!)
  } finally {
    await session.dispose()
  }
}

interface Zeros {
  readonly dims: readonly number[]
  /** 1 where a weight is zero. */
  readonly at: Uint8Array
}

/** `padded`: integer kernels may be given more channels, behind the others, which are zeros. */
async function assertZerosKept(model: Model, zeros: readonly Zeros[], what: string, padded = false): Promise<void> {
  const now = await operands(model)
  assert.equal(now.length, zeros.length, what)
  for (const [i, t] of now.entries()) {
    const { dims, at } = zeros[i]!
    if (!padded) assert.deepEqual(t.dims, dims, `${what}: layer ${i}`)
    assert.ok(
      dims.every((d, axis) => t.dims[axis]! >= d),
      `${what}: layer ${i}`,
    )
    let own = 0
    t.toFloat32().forEach((w, k) => {
      const place = placeOf(k, t.dims)
      const isOwn = place.every((x, axis) => x < dims[axis]!)
      if (isOwn) own++
      const isZero = !isOwn || at[place.reduce((index, x, axis) => index * dims[axis]! + x, 0)] === 1
      if (isZero) assert.equal(w + 0, 0, `${what}: layer ${i}, weight ${place}`)
    })
    assert.equal(own, at.length)
  }
}

function placeOf(index: number, dims: readonly number[]): number[] {
  const place: number[] = []
  let rest = index
  for (const d of [...dims].reverse()) {
    place.unshift(rest % d)
    rest = Math.floor(rest / d)
  }
  return place
}

const nonZeros = (tensors: readonly Tensor[]): number =>
  tensors.reduce((n, t) => n + t.toFloat32().filter((w) => w !== 0).length, 0)

const calibration = (model: Model) => ({
  calibration: {
    async *batches() {
      const rng = new Rng(1)
      const draw = Float32Array.from({ length: 4 * 64 }, () => rng.normal())
      yield { [model.graph.inputs[0]!.name]: Tensor.float32([4, 1, 8, 8], draw) }
    },
  },
})

/** Options that each pass needs to do something to a pruned network; the others are run as they are. */
const options: Readonly<Record<string, Readonly<Record<string, unknown>>>> = {
  'insert-prune-mask': { sparsity: 0.9, only: ['nothing*'] },
  'insert-fake-quant': { ops: ['Conv', 'Gemm'], firstLayer: 'quantize' },
  'freeze-subgraph': { names: ['stem.*'] },
  'upgrade-opset': { to: 22 },
}

/** They append what is not part of the network, take another model, or prune. */
const elsewhere = ['autodiff', 'merge-teacher', 'insert-prune-mask']

/** They change what a quantiser was calibrated on. */
const beforeQuantize = ['fold-bn', 'reestimate-bn']

const patterns = {
  unstructured: { sparsity: 0.75 },
  '2:4': { pattern: '2:4' },
  channel: { pattern: 'channel', sparsity: 0.5, scope: 'layer' },
} as const

for (const [name, given] of Object.entries(patterns))
  test(`${name}: zeros are kept by every pass, by training, bn-update and every export`, async () => {
    const model = tinyNet(4)
    await pass(model, 'prune', { ops: ['Conv', 'Gemm'], ...given })
    const zeros = (await operands(model)).map((t) => ({
      dims: t.dims,
      at: Uint8Array.from(t.toFloat32(), (w) => (w === 0 ? 1 : 0)),
    }))
    assert.ok(zeros.reduce((n, z) => n + z.at.reduce((a, b) => a + b, 0), 0) > 0)
    const quantised = cloneModel(model)
    await pass(quantised, 'quantize', { ops: ['Conv', 'Gemm'], firstLayer: 'quantize' }, calibration(model))
    for (const start of [model, quantised])
      for (const def of passes) {
        if (elsewhere.includes(def.name) || (start === quantised && def.name === 'insert-fake-quant')) continue
        const copy = cloneModel(start)
        if (start === quantised && beforeQuantize.includes(def.name)) {
          const refused = { code: 'pass-order', message: new RegExp(`${def.name} comes too late`) }
          await assert.rejects(pass(copy, findPass(def.name), {}, calibration(model)), refused)
          continue
        }
        await pass(copy, findPass(def.name), options[def.name] ?? {}, calibration(model))
        // smaller layers have no weights to compare one by one
        if (def.name !== 'remove-channels') await assertZerosKept(copy, zeros, def.name)
        else assert.ok(nonZeros(await operands(copy)) <= nonZeros(await operands(start)))
      }
    const trained = await run(quantised, { maxSteps: 6, lr: 0.1 })
    await assertZerosKept(trained.model, zeros, 'training')
    await updateBatchNorm(trained.model, {
      data: images(60),
      preprocess: pixels,
      batch: 20,
      augment: 'none',
      workers: 0,
    })
    await assertZerosKept(trained.model, zeros, 'bn-update')
    for (const format of ['packed', 'int4', 'int8'] as const) {
      const { model: exported } = await exportModel(cloneModel(trained.model), { format })
      await assertZerosKept(exported, zeros, format, format === 'int8')
    }
  })

test('2:4 after quantising, training and export: of four input channels at most two are not zero', async () => {
  const model = tinyNet(4)
  await pass(model, 'prune', { pattern: '2:4', only: ['body.conv'] })
  await pass(model, 'quantize', { activationBits: 0 })
  const { model: trained } = await run(model, { maxSteps: 8, maskUpdateEvery: 2, maskUpdateUntil: 99, lr: 0.1 })
  const { model: exported } = await exportModel(trained, { format: 'packed' })
  const w = (await operands(exported))[1]!
  const [outs, ins, ...kernel] = w.dims as [number, number, ...number[]]
  const inner = kernel.reduce((a, b) => a * b, 1)
  const values = w.toFloat32()
  for (let o = 0; o < outs; o++)
    for (let k = 0; k < inner; k++) {
      const group = Array.from({ length: ins }, (_, i) => values[(o * ins + i) * inner + k]!)
      assert.ok(group.filter((x) => x !== 0).length <= 2, group.join())
    }
})
