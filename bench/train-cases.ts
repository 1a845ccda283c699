/** The networks whose training steps are compared with PyTorch's: ten classes or more. */
import { basename, join } from 'node:path'
import { readModel, writeModel } from '../src/codec/codec.ts'
import type { Model } from '../src/graph/model.ts'
import { buildNetwork } from '../src/models/spec.ts'
import { joinGates } from '../src/train/step/join-gates.ts'
import { recurrent } from './recurrent.ts'
import { writeNetwork } from './torch-peer.ts'
import { encoder } from './transformer.ts'

export interface TrainCase {
  /** A specification of models/, a family, a file, or what makes it. */
  readonly student: string | ((seed: number) => Model)
  readonly teacher?: string
  /** Of a sample; an image of 3x32x32 by default. */
  readonly shape?: readonly number[]
}

/** Families of `mnc build`, for 32x32 images and 10 classes. */
const mobile = ['mobilenet-v2', 'mobilenet-v3-small', 'shufflenet-v2', 'efficientnet-b0']

/** `kaist` is the MobileNetV3-like network of the zoo (.data/zoo), its h-swish as one operator for both sides. */
export const trainCases: Readonly<Record<string, TrainCase>> = {
  'densenet-bc-40-12': { student: 'densenet-bc-40-12' },
  'resnet-20': { student: 'resnet-20' },
  'densenet-bc-100-12': { student: 'densenet-bc-100-12' },
  distillation: { student: 'resnet-20', teacher: 'resnet-56' },
  'resnet-56': { student: 'resnet-56' },
  kaist: { student: '.data/zoo/micronet_kaist_v2_pr15_op14.onnx' },
  ...Object.fromEntries(mobile.map((family) => [family, { student: family }])),
  lstm: {
    student: (seed) => recurrent({ layers: 2, width: 256, length: 32, inputs: 64 }, 10, seed),
    shape: [32, 64],
  },
  encoder: {
    student: (seed) => encoder({ layers: 4, width: 256, heads: 4, vocabulary: 0, positions: 64 }, 10, seed),
    shape: [64, 256],
  },
}

/** Of an image. */
const IMAGE = [3, 32, 32]

export function trainCase(name: string): TrainCase & { readonly shape: readonly number[] } {
  const found = trainCases[name]
  if (!found) throw new Error(`no case '${name}'; there are ${Object.keys(trainCases).join(', ')}`)
  return { ...found, shape: found.shape ?? IMAGE }
}

/** Writes the network with weights drawn from `seed`, or its own; returns the path. */
export async function writeStudent(folder: string, student: TrainCase['student'], seed = 1): Promise<string> {
  if (typeof student === 'function') {
    const path = join(folder, `network-${seed}.onnx`)
    await writeModel(student(seed), path)
    return path
  }
  const isFile = student.endsWith('.onnx')
  if (!isFile && !mobile.includes(student)) return writeNetwork(folder, student, seed)
  const model = isFile ? await readModel(student) : buildNetwork({ family: student, classes: 10 }, { seed })
  joinGates(model.graph)
  const path = join(folder, `${basename(student, '.onnx')}-${seed}.onnx`)
  await writeModel(model, path)
  return path
}
