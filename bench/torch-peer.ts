/**
 * Both sides of the training benches: the same ONNX file and the same batches for mnc's step graph and for PyTorch eager
 * (bench/torch/reference.py, run by $PYTHON, default /usr/bin/python3).
 */
import { spawn } from 'node:child_process'
import { existsSync } from 'node:fs'
import { readFile, writeFile } from 'node:fs/promises'
import { cpus } from 'node:os'
import { join } from 'node:path'
import { Rng } from '../src/base/rng.ts'
import { readModel, writeModel } from '../src/codec/codec.ts'
import { cloneModel } from '../src/graph/clone.ts'
import { Tensor } from '../src/graph/tensor.ts'
import { buildNetwork, loadSpec } from '../src/models/spec.ts'
import type { Executor, LoadOptions } from '../src/runtime/executor.ts'
import { ortExecutor } from '../src/runtime/ort/ort.ts'
import { separateScales } from '../src/train/step/learned-scales.ts'
import { hyperFeeds, type OptimizerOptions, optimizerDefaults } from '../src/train/step/optimizers.ts'
import { buildStep } from '../src/train/step/step-graph.ts'
import { StepRunner } from '../src/train/step/step-runner.ts'
import { prepareTeacher } from '../src/train/step/teacher.ts'

/** Labels are 0..9, whatever the network's classes. */
const CLASSES = 10

export interface Setup {
  readonly model: string
  readonly batches: string
  readonly batch: number
  readonly shape: readonly number[]
  readonly teacher?: string | undefined
  /** Parts in which mnc processes the batch; its own choice if absent. */
  readonly tiles?: number | undefined
  readonly precision?: 'float32' | 'float16' | undefined
  /** Quantiser scales are trained, as PyTorch's side always does. */
  readonly learnScales?: boolean
  readonly optimizer?: Partial<OptimizerOptions>
}

/** Writes a network of models/ with fresh weights; returns the path. */
export async function writeNetwork(folder: string, spec: string, seed: number): Promise<string> {
  const path = join(folder, `${spec}-${seed}.onnx`)
  await writeModel(buildNetwork(await loadSpec(spec), { seed }), path)
  return path
}

/**
 * Writes `count` batches as reference.py reads them: CIFAR-10 training images where .data/ has them (3x32x32 only),
 * else normal noise; normalised to about mean 0 and deviation 1.
 */
export async function writeBatches(
  path: string,
  count: number,
  batch: number,
  shape: readonly number[],
): Promise<void> {
  const size = shape.reduce((a, b) => a * b, 1)
  const cifar = '.data/cifar-10/data_batch_1.bin'
  const real = shape.join() === '3,32,32' && existsSync(cifar) ? await readFile(cifar) : null
  const rng = new Rng(7)
  const parts: Uint8Array[] = []
  for (let b = 0, at = 0; b < count; b++) {
    const images = new Float32Array(batch * size)
    const labels = new BigInt64Array(batch)
    for (let i = 0; i < batch; i++, at++) {
      const record = real?.subarray((at % 10000) * (size + 1), ((at % 10000) + 1) * (size + 1))
      labels[i] = BigInt(record ? record[0]! : rng.integer(CLASSES))
      for (let k = 0; k < size; k++) images[i * size + k] = record ? (record[k + 1]! - 121) / 63 : rng.normal(0, 1)
    }
    parts.push(new Uint8Array(images.buffer), new Uint8Array(labels.buffer))
  }
  await writeFile(path, Buffer.concat(parts))
}

/** Batches as the step graph takes them: images and one-hot targets. */
async function readBatches(
  { batches, batch, shape }: Setup,
  classes: number,
): Promise<{ images: Tensor; targets: Tensor }[]> {
  const bytes = await readFile(batches)
  const count = batch * shape.reduce((a, b) => a * b, 1)
  const length = count * 4 + batch * 8
  return Array.from({ length: bytes.length / length }, (_, i) => {
    const part = new Uint8Array(bytes.subarray(i * length, (i + 1) * length))
    const labels = new BigInt64Array(part.buffer.slice(count * 4))
    const targets = new Float32Array(batch * classes)
    labels.forEach((c, k) => {
      targets[k * classes + Number(c)] = 1
    })
    return {
      images: Tensor.float32([batch, ...shape], new Float32Array(part.buffer, 0, count)),
      targets: Tensor.float32([batch, classes], targets),
    }
  })
}

/** mnc's side: a runner with the file's weights, and a function for one step. */
export async function mncSide(
  setup: Setup,
  threads: number,
  executor: Executor = ortExecutor(),
  load: LoadOptions = {},
) {
  const model = await readModel(setup.model)
  const { learnScales = false } = setup
  if (learnScales) separateScales(model.graph)
  const optimizer = { ...optimizerDefaults, ...setup.optimizer }
  const teacher = setup.teacher === undefined ? undefined : await prepareTeacher(await readModel(setup.teacher), false)
  const step = await buildStep(
    cloneModel(model),
    {
      ...{ batch: setup.batch, loss: teacher ? 'reverse-kl' : 'ce', alpha: 1, temperature: 1, optimizer },
      ...{ batchStatistics: true, learnScales, teacher: teacher && { model: teacher, batchStatistics: false } },
      native: load.native !== false && (await executor.nativeKernels?.()) != null,
      tiles: executor.device.id === 'cpu' ? setup.tiles : 1,
      precision: setup.precision,
    },
    () => false,
  )
  const runner = await StepRunner.create(step, executor, { threads, ...load })
  runner.loadFrom(model)
  // the value that a run settles at: small enough for no overflow
  const scale = step.lossScaled ? { loss_scale: Tensor.scalar(1024) } : {}
  const batches = await readBatches(setup, step.classes ?? CLASSES)
  const at = (i: number) => batches[i % batches.length]!
  return {
    runner,
    async step(i: number, lr: number): Promise<number> {
      const { loss } = await runner.run(at(i).images, at(i).targets, { ...hyperFeeds(optimizer, lr, i), ...scale })
      runner.commit()
      return loss
    },
    async gradients(): Promise<{ loss: number; gradients: Map<string, Float32Array> }> {
      const hyper = { ...hyperFeeds(optimizer, 0, 0), ...scale }
      const gradients = await runner.gradients(at(0).images, at(0).targets, hyper)
      const { loss } = await runner.run(at(0).images, at(0).targets, hyper)
      return { loss, gradients }
    },
  }
}

export interface TorchResult {
  readonly torch: string
  readonly loss: number
  readonly losses: readonly number[]
  readonly tensors: readonly { name: string; dims: readonly number[]; offset: number }[]
  readonly seconds: readonly number[]
  readonly peakBytes: number
  /** Of the steps that are timed. */
  readonly processorSeconds: number
}

/** Runs a command of reference.py. */
export async function torchSide(command: string, setup: Setup, extra: readonly string[] = []): Promise<TorchResult> {
  const o = { ...optimizerDefaults, ...setup.optimizer }
  const args = [
    ...['bench/torch/reference.py', command, setup.model, '--batches', setup.batches, '--batch', String(setup.batch)],
    ...['--shape', ...setup.shape.map(String), '--optimizer', o.optimizer, '--momentum', String(o.momentum)],
    ...['--weight-decay', String(o.weightDecay), ...(o.nesterov ? ['--nesterov'] : [])],
    ...(setup.teacher === undefined ? [] : ['--teacher', setup.teacher, '--loss', 'reverse-kl']),
    ...extra,
  ]
  return JSON.parse(await run(process.env.PYTHON ?? '/usr/bin/python3', args)) as TorchResult
}

/** Standard output of a command; an error where it fails. */
export async function run(command: string, args: readonly string[]): Promise<string> {
  const child = spawn(command, args, { stdio: ['ignore', 'pipe', 'inherit'] })
  const parts: Buffer[] = []
  child.stdout.on('data', (part: Buffer) => parts.push(part))
  const code = await new Promise<number | null>((done, fail) => child.on('error', fail).on('close', done))
  if (code !== 0) throw new Error(`${command} ${args.join(' ')} ended with ${code}`)
  return Buffer.concat(parts).toString('utf8')
}

/** What a result was measured on. */
export const machine = (): Record<string, unknown> => ({
  cpu: cpus()[0]?.model ?? 'unknown',
  cores: cpus().length,
  node: process.version,
})
