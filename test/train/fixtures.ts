/** Small models, images and runs that the tests of training share. */
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after } from 'node:test'
import { Rng } from '../../src/base/rng.ts'
import { encodeModel } from '../../src/codec/codec.ts'
import { Dataset, sharedBytes } from '../../src/data/dataset.ts'
import type { Preprocess } from '../../src/data/preprocess.ts'
import { cloneModel } from '../../src/graph/clone.ts'
import { Model } from '../../src/graph/model.ts'
import { Tensor } from '../../src/graph/tensor.ts'
import { NetworkBuilder } from '../../src/models/layers.ts'
import {
  type StepEvent,
  type TrainEvent,
  type TrainRun,
  type TrainSummary,
  train,
} from '../../src/train/loop/trainer.ts'
import type { TrainOptionsInput } from '../../src/train/train-options.ts'

export const CLASSES = 3
export const SIZE = 8

/** Two convolutions with BatchNormalization and a classifier: what most tests need, and quick to build steps of. */
export function tinyNet(seed = 0): Model {
  const net = new NetworkBuilder(new Rng(seed))
  let x = net.conv(net.input({ channels: 1, size: SIZE }), 'stem.conv', 4, { kernel: 3 })
  x = net.relu(net.batchNorm(x, 'stem.bn'), 'stem.relu')
  x = net.relu(net.batchNorm(net.conv(x, 'body.conv', 6, { kernel: 3, stride: 2 }), 'body.bn'), 'body.relu')
  return net.output(net.linear(net.globalAveragePool(x, 'pool'), 'fc', CLASSES, 'logits'))
}

/** y = W x + b on flattened images: everything about it can be worked out by hand. */
export function linearModel(seed = 0, classes = CLASSES): Model {
  const model = new Model()
  const { graph } = model
  const rng = new Rng(seed, 1)
  const draw = (...dims: number[]): Tensor =>
    Tensor.float32(
      dims,
      Float32Array.from({ length: dims.reduce((a, b) => a * b) }, () => rng.normal(0, 0.1)),
    )
  const b = graph.append()
  const input = graph.addInput('input', { elem: 'float32', dims: ['N', 1, SIZE, SIZE] })
  const weight = b.initializer('weight', draw(classes, SIZE * SIZE))
  const flat = b.op('Flatten', [input], { axis: 1 })
  const type = { elem: 'float32', dims: ['N', classes] } as const
  graph.addOutput(
    b.op('Gemm', [flat, weight, b.initializer('bias', draw(classes))], { transB: 1 }, { name: 'logits', type }),
  )
  return model
}

export const pixels: Preprocess = { scale: 255, mean: [0.5], std: [0.25], size: [SIZE, SIZE], layout: 'NCHW' }

/** Noise around one random image for each class: learned within a few steps. */
export function images(count: number, classes = CLASSES, seed = 5): Dataset {
  const rng = new Rng(seed)
  const plane = SIZE * SIZE
  const centres = Array.from({ length: classes }, () => Array.from({ length: plane }, () => rng.integer(160)))
  const bytes = sharedBytes(count * plane)
  const labels = Int32Array.from({ length: count }, (_, i) => i % classes)
  for (let i = 0; i < count; i++)
    for (let p = 0; p < plane; p++) bytes[i * plane + p] = centres[labels[i]!]![p]! + rng.integer(96)
  return new Dataset({
    name: 'noise',
    split: 'train',
    classes,
    channels: 1,
    height: SIZE,
    width: SIZE,
    images: bytes,
    labels,
  })
}

export interface Outcome {
  readonly model: Model
  readonly events: readonly TrainEvent[]
  readonly losses: readonly number[]
  readonly summary: TrainSummary
}

export const losses = (events: readonly TrainEvent[]): number[] =>
  events.filter((e): e is StepEvent => e.kind === 'step').map((e) => e.loss)

/** Trains a copy of `model` for `steps` steps, without augmentation and threads. */
export async function run(
  model: Model,
  options: TrainOptionsInput = {},
  rest: Partial<TrainRun> = {},
): Promise<Outcome> {
  const copy = cloneModel(model)
  const events: TrainEvent[] = []
  const own = { batch: 6, lr: 0.05, augment: 'none', workers: 0, threads: 1, ...options }
  const summary = await train(copy, { data: images(60), preprocess: pixels, options: own, ...rest }, (e) => {
    events.push(e)
  })
  return { model: copy, events, losses: losses(events), summary }
}

export const bytesOf = (model: Model): Buffer => Buffer.from(encodeModel(model))
export const values = (model: Model, name: string): Float32Array => model.graph.find(name)!.constant!.toFloat32()

/** A folder that goes when the file's tests are done. */
export function scratch(): (name: string) => string {
  const folder = mkdtempSync(join(tmpdir(), 'mnc-train-'))
  after(() => rmSync(folder, { recursive: true, force: true }))
  return (name) => join(folder, name)
}
