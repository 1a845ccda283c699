/**
 * What the step graph's shape rests on: how an elementwise kernel's time per byte depends on the array's size
 * (src/train/step/tile-batch.ts), blocked against plain convolutions with changing weights (src/lowerings/blocked),
 * weight gradients on flat positions against one copy for each kernel offset (src/ops/support/conv-weight-gradient.ts), and whole
 * training steps in the plain and the blocked layout.
 *
 *   node --import tsx bench/kernels.ts [--out bench/results/kernels.json]
 *
 * The peer of each figure is the line next to it in the same run; best of 20 runs; one thread, weight gradients two.
 */
import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { parseArgs } from 'node:util'
import { readModel } from '../src/codec/codec.ts'
import { Model } from '../src/graph/model.ts'
import { Tensor } from '../src/graph/tensor.ts'
import { useBlockedLayout } from '../src/lowerings/blocked/index.ts'
import { byShiftedInput, convWeightGradient } from '../src/ops/support/conv-weight-gradient.ts'
import { inferTypes } from '../src/runtime/isolated/infer-types.ts'
import { findBlock } from '../src/runtime/ort/find-block.ts'
import { ortExecutor } from '../src/runtime/ort/ort.ts'
import { optimizerDefaults } from '../src/train/step/optimizers.ts'
import { buildStep } from '../src/train/step/step-graph.ts'
import { machine, writeNetwork } from './torch-peer.ts'

const { values: args } = parseArgs({ options: { out: { type: 'string', default: 'bench/results/kernels.json' } } })
const RUNS = 20
const CHAIN = 10

/** Milliseconds of the best of RUNS runs on small numbers. */
async function best(model: Model, threads = 1): Promise<number> {
  const session = await ortExecutor().load(model, { threads })
  const feeds = Object.fromEntries(
    model.graph.inputs.map((v) => {
      const size = v.dims.reduce((p, d) => p * d, 1)
      return [
        v.name,
        Tensor.float32(
          v.dims,
          Float32Array.from({ length: size }, (_, i) => ((i * 7919) % 97) / 97),
        ),
      ]
    }),
  )
  let ms = Number.POSITIVE_INFINITY
  for (let i = 0; i < RUNS; i++) {
    const start = performance.now()
    await session.run(feeds)
    ms = Math.min(ms, performance.now() - start)
  }
  await session.dispose()
  return ms
}

/** A chain of multiplications by one number per channel; the output is a single number. */
async function perHundredMegabytes(channels: number): Promise<number> {
  const model = new Model()
  const { graph } = model
  let v = graph.addInput('x', { elem: 'float32', dims: [64, channels, 32, 32] })
  const scale = graph.addInput('s', { elem: 'float32', dims: [channels, 1, 1] })
  const b = graph.append()
  for (let i = 0; i < CHAIN; i++) v = b.op('Mul', [v, scale])
  graph.addOutput(b.op('ReduceMax', [v], { keepdims: 0 }))
  return ((await best(model)) / CHAIN) * (1e8 / (4 * 64 * channels * 1024))
}

async function convolution(out: number, into: number, side: number) {
  const model = new Model()
  const { graph } = model
  const x = graph.addInput('x', { elem: 'float32', dims: [64, into, side, side] })
  const w = graph.addInput('w', { elem: 'float32', dims: [out, into, 3, 3] })
  const y = graph.append().op('Conv', [x, w], { pads: [1, 1, 1, 1] })
  graph.addOutput(graph.append().op('ReduceMax', [y], { keepdims: 0 }))
  await inferTypes(model)
  const plainMs = await best(model)
  useBlockedLayout(model, await findBlock((m) => ortExecutor().load(m)))
  const blockedMs = await best(model)
  return { channels: `${into} -> ${out}`, side, plainMs, blockedMs, ratio: plainMs / blockedMs }
}

/** 3x3, padding 1, 64 images. */
async function weightGradient(out: number, into: number, side: number, stride: number) {
  const to = side / stride
  const time = async (form: typeof convWeightGradient): Promise<number> => {
    const model = new Model()
    const { graph } = model
    const x = graph.addInput('x', { elem: 'float32', dims: [64, into, side, side] })
    const dy = graph.addInput('dy', { elem: 'float32', dims: [64, out, to, to] })
    const pair = (v: number): readonly number[] => [v, v]
    const geometry = {
      ...{ n: 64, cin: into, cout: out, group: 1, kernel: pair(3), stride: pair(stride), dilation: pair(1) },
      ...{ begin: pair(1), end: pair(stride === 1 ? 1 : 0), inSize: pair(side), outSize: pair(to) },
    }
    const b = graph.append()
    graph.addOutput(b.op('ReduceMax', [form(x, dy, geometry, b)], { keepdims: 0 }))
    return best(model, 2)
  }
  const copiedMs = await time(byShiftedInput)
  const flatMs = await time(convWeightGradient)
  return { channels: `${into} -> ${out}`, side, stride, copiedMs, flatMs, ratio: copiedMs / flatMs }
}

/** A training step, batch 64, as it stands and with everything that has a blocked form in it; two threads. */
async function step(network: string) {
  const folder = await mkdtemp(join(tmpdir(), 'mnc-kernels-'))
  const model = await readModel(await writeNetwork(folder, network, 1))
  await rm(folder, { recursive: true })
  const settings = {
    batch: 64,
    loss: 'ce',
    alpha: 1,
    temperature: 1,
    batchStatistics: true,
    learnScales: false,
  } as const
  const { model: plain } = await buildStep(model, { ...settings, optimizer: optimizerDefaults }, () => false)
  const plainMs = await best(plain, 2)
  useBlockedLayout(plain, await findBlock((m) => ortExecutor().load(m)))
  const blockedMs = await best(plain, 2)
  return { network, plainMs, blockedMs, ratio: plainMs / blockedMs }
}

const sizes: { megabytes: number; msPerHundredMegabytes: number }[] = []
for (const channels of [3, 12, 24, 48, 96, 168])
  sizes.push({ megabytes: (channels * 4) / 16, msPerHundredMegabytes: await perHundredMegabytes(channels) })
const convolutions = []
for (const [out, into, side] of [
  [12, 48, 32],
  [48, 12, 32],
  [16, 16, 32],
  [32, 32, 16],
  [64, 64, 8],
] as const)
  convolutions.push(await convolution(out, into, side))
const weightGradients = []
for (const [out, into, side, stride] of [
  [12, 48, 32, 1],
  [16, 16, 32, 1],
  [32, 32, 16, 1],
  [64, 64, 8, 1],
  [32, 16, 32, 2],
] as const)
  weightGradients.push(await weightGradient(out, into, side, stride))
const steps = [await step('resnet-20'), await step('densenet-bc-40-12')]
console.table(sizes)
console.table(convolutions)
console.table(weightGradients)
console.table(steps)
await mkdir(dirname(args.out), { recursive: true })
await writeFile(
  args.out,
  `${JSON.stringify({ machine: await machine(), sizes, convolutions, weightGradients, steps }, null, 2)}\n`,
)
