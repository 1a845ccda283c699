/**
 * Size and speed of exported files, in one run, against the float network and against the same file without its decode:
 *
 *   node --import tsx bench/export.ts [--threads 1] [--out bench/results/export.json]
 *
 * ResNet-20 (from the zoo if it is there, else fresh weights), DenseNet-BC-40-12 and DenseNet-BC-100-12, pruned to 75 %,
 * W4A4, calibrated on random images: speed and size do not depend on what was learned. Times are medians of runs taken
 * in turns. `float` is the network before compression; `dense` is the packed file with its weights stored as floats;
 * `int8, 8-bit additions` went through `quantize-outputs`, `row pairs` is exported with `--row-pairs`. The profile of the
 * int8 file at batch 32 says what bounds it.
 */
import { existsSync, mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { mkdir, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { parseArgs } from 'node:util'
import { Rng } from '../src/base/rng.ts'
import { encodeModel, readModel } from '../src/codec/codec.ts'
import { explainKernels } from '../src/export/explain.ts'
import { exportModel } from '../src/export/export-model.ts'
import { cloneModel } from '../src/graph/clone.ts'
import type { Model } from '../src/graph/model.ts'
import { Tensor } from '../src/graph/tensor.ts'
import { buildNetwork } from '../src/models/spec.ts'
import { upgradeModelTo } from '../src/ops/raise-opset.ts'
import { runPass } from '../src/passes/run-pass.ts'
import type { Session } from '../src/runtime/executor.ts'
import { ortExecutor } from '../src/runtime/ort/ort.ts'
import type { CalibrationData } from '../src/samples/calibration-data.ts'
import { machine } from './torch-peer.ts'

const { values: args } = parseArgs({
  options: {
    threads: { type: 'string', default: '1' },
    out: { type: 'string', default: 'bench/results/export.json' },
  },
})
const threads = Number(args.threads)
const ZOO_RESNET = '../shared/zoo/akamaster_resnet20_bn_op13.onnx'
const ROUNDS = 15
const BATCHES = [32, 1]
const LEVELS = ['all', 'disabled'] as const

function images(count: number): Tensor {
  const rng = new Rng(1)
  return Tensor.float32(
    [count, 3, 32, 32],
    Float32Array.from({ length: count * 3072 }, () => rng.normal()),
  )
}

const calibrationFor = (model: Model): CalibrationData => ({
  async *batches() {
    yield { [model.graph.inputs[0]!.name]: images(16) }
  },
})

async function compressed(dense: Model): Promise<Model> {
  const model = cloneModel(dense)
  await runPass(model, 'insert-prune-mask', { sparsity: 0.75 })
  await runPass(model, 'insert-fake-quant', {}, { calibration: calibrationFor(model) })
  return model
}

async function withRoundedSums(quantised: Model): Promise<Model> {
  const model = cloneModel(quantised)
  await runPass(model, 'quantize-outputs', {}, { calibration: calibrationFor(model) })
  return model
}

/** The packed file as it is after loading: everything that depends on constants alone is computed. */
async function folded(packed: Model): Promise<Model> {
  const model = cloneModel(packed)
  await runPass(model, 'fold-constants', { maxBytes: 2 ** 30 })
  await runPass(model, 'eliminate-dead')
  return model
}

interface Candidate {
  readonly label: string
  readonly session: Session
  readonly loadMs: number
  readonly bytes: number
}

async function candidate(label: string, model: Model, optimization: (typeof LEVELS)[number]): Promise<Candidate> {
  const bytes = encodeModel(model)
  const start = performance.now()
  const session = await ortExecutor().load(bytes, { optimization, threads })
  return { label, session, loadMs: performance.now() - start, bytes: bytes.length }
}

async function medians(candidates: readonly Candidate[], batch: number): Promise<number[]> {
  const x = images(batch)
  const times = candidates.map((): number[] => [])
  for (let round = -2; round < ROUNDS; round++)
    for (const [i, { session }] of candidates.entries()) {
      const start = performance.now()
      await session.run({ [session.inputNames[0]!]: x })
      if (round >= 0) times[i]!.push(performance.now() - start)
    }
  return times.map((t) => t.sort((a, b) => a - b)[Math.floor(t.length / 2)]!)
}

interface Event {
  readonly cat: string
  readonly name: string
  readonly dur: number
  readonly args: { readonly op_name?: string }
}

/** Microseconds per image by operator, at ORT_ENABLE_ALL and batch 32. */
async function profile(model: Model): Promise<{ op: string; nodes: number; microseconds: number }[]> {
  const folder = mkdtempSync(join(tmpdir(), 'mnc-bench-'))
  const [batch] = BATCHES
  const x = images(batch!)
  const session = await ortExecutor().load(model, { threads, profilePrefix: join(folder, 'profile') })
  for (let i = 0; i < ROUNDS; i++) await session.run({ [session.inputNames[0]!]: x })
  const events: readonly Event[] = JSON.parse(readFileSync(session.endProfiling()!, 'utf8'))
  await session.dispose()
  rmSync(folder, { recursive: true })
  // the median of each node's runs, summed over the nodes of an operator
  const byNode = new Map<string, { op: string; times: number[] }>()
  for (const { cat, name, dur, args } of events) {
    if (cat !== 'Node' || !name.endsWith('_kernel_time')) continue
    const node = byNode.get(name) ?? { op: args.op_name ?? name, times: [] }
    node.times.push(dur)
    byNode.set(name, node)
  }
  const byOp = new Map<string, { op: string; nodes: number; microseconds: number }>()
  for (const { op, times } of byNode.values()) {
    const sum = byOp.get(op) ?? { op, nodes: 0, microseconds: 0 }
    sum.nodes += 1
    sum.microseconds += times.sort((a, b) => a - b)[Math.floor(times.length / 2)]! / batch!
    byOp.set(op, sum)
  }
  return [...byOp.values()].sort((a, b) => b.microseconds - a.microseconds)
}

const rounded = (x: number, digits = 4): number => Number(x.toPrecision(digits))

async function measure(title: string, dense: Model, withAdditions: boolean) {
  const quantised = await compressed(dense)
  const packed = await exportModel(quantised)
  const int8 = await exportModel(quantised, { format: 'int8', vnni: true })
  const both = await exportModel(quantised, { format: 'int8', vnni: true, packedWeights: true })
  const int4 = await exportModel(quantised, { format: 'int4' })
  const files: [string, Model][] = [
    ['float', dense],
    ['dense', await folded(packed.model)],
    ['packed', packed.model],
    ['int4', int4.model],
    ['int8', int8.model],
    ['int8 packed', both.model],
  ]
  if (withAdditions) {
    const rounded = await withRoundedSums(quantised)
    const options = [{}, { rowPairs: true }, { rowPairs: true, packedWeights: true }]
    const [sums, pairs, packedPairs] = await Promise.all(
      options.map(async (o) => (await exportModel(rounded, { format: 'int8', vnni: true, ...o })).model),
    )
    files.push(['int8, 8-bit additions', sums!], ['int8, 8-bit additions, row pairs', pairs!])
    files.push(['int8 packed, 8-bit additions, row pairs', packedPairs!])
  }
  const { bytesPerWeight, weights, bytes } = packed.report
  console.log(
    `\n${title}: ${weights} weights, packed ${bytesPerWeight.toFixed(4)} bytes per weight, ${threads} thread(s)`,
  )
  const speed = []
  for (const optimization of LEVELS) {
    const candidates: Candidate[] = []
    for (const [label, model] of files) candidates.push(await candidate(label, model, optimization))
    for (const batch of BATCHES) {
      const ms = await medians(candidates, batch)
      for (const [i, { label, bytes, loadMs }] of candidates.entries())
        speed.push({
          ...{ optimization, batch, file: label, bytes, loadMs: rounded(loadMs, 3) },
          ...{ imagesPerSecond: rounded((batch * 1000) / ms[i]!), timesFloat: rounded(ms[0]! / ms[i]!, 3) },
          timesDense: rounded(ms[1]! / ms[i]!, 3),
        })
    }
    for (const c of candidates) await c.session.dispose()
  }
  console.table(speed)
  const profiles: Record<string, unknown> = {}
  for (const [label, model] of files.filter(([l]) => l === 'float' || /^int8(,|$)/.test(l))) {
    const ops = await profile(model)
    const conv = ops.filter((o) => /Conv/.test(o.op)).reduce((n, o) => n + o.microseconds, 0)
    const all = ops.reduce((n, o) => n + o.microseconds, 0)
    const { layers } = await explainKernels(model)
    profiles[label] = {
      ...{ layers: layers.length, integerLayers: layers.filter((l) => l.kernel).length },
      ...{ microsecondsPerImage: rounded(all), convolutions: rounded(conv) },
      ops: ops.slice(0, 10).map((o) => ({ ...o, microseconds: rounded(o.microseconds) })),
    }
    console.log(`${label}: ${all.toFixed(0)} us an image, ${conv.toFixed(0)} in convolutions`)
    console.table(ops.slice(0, 10))
  }
  return { network: title, weights, packed: { bytes, bytesPerWeight: rounded(bytesPerWeight) }, speed, profiles }
}

const resnet = existsSync(ZOO_RESNET) ? await readModel(ZOO_RESNET) : buildNetwork({ family: 'resnet' }, { seed: 1 })
upgradeModelTo(resnet, 21)
const densenet = (depth: number): Model => buildNetwork({ family: 'densenet-bc', depth, growth: 12 }, { seed: 1 })
const networks = [
  await measure('ResNet-20', resnet, true),
  await measure('DenseNet-BC-40-12', densenet(40), false),
  await measure('DenseNet-BC-100-12', densenet(100), false),
]
await mkdir(dirname(args.out), { recursive: true })
await writeFile(args.out, `${JSON.stringify({ machine: machine(), threads, networks }, null, 2)}\n`)
