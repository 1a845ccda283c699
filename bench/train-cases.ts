/** The networks whose training steps are compared with PyTorch's: inputs of 3x32x32, ten classes or more. */
import { basename, join } from 'node:path'
import { readModel, writeModel } from '../src/codec/codec.ts'
import { buildNetwork } from '../src/models/spec.ts'
import { joinGates } from '../src/train/step/join-gates.ts'
import { writeNetwork } from './torch-peer.ts'

/** Families of `mnc build`, for 32x32 images and 10 classes. */
const mobile = ['mobilenet-v2', 'mobilenet-v3-small', 'shufflenet-v2', 'efficientnet-b0']

/** `kaist` is the MobileNetV3-like network of the zoo (.data/zoo), its h-swish as one operator for both sides. */
export const trainCases: Readonly<Record<string, { student: string; teacher?: string }>> = {
  'densenet-bc-40-12': { student: 'densenet-bc-40-12' },
  'resnet-20': { student: 'resnet-20' },
  'densenet-bc-100-12': { student: 'densenet-bc-100-12' },
  distillation: { student: 'resnet-20', teacher: 'resnet-56' },
  'resnet-56': { student: 'resnet-56' },
  kaist: { student: '.data/zoo/micronet_kaist_v2_pr15_op14.onnx' },
  ...Object.fromEntries(mobile.map((family) => [family, { student: family }])),
}

export function trainCase(name: string): { student: string; teacher?: string } {
  const found = trainCases[name]
  if (!found) throw new Error(`no case '${name}'; there are ${Object.keys(trainCases).join(', ')}`)
  return found
}

/** Writes the network with weights drawn from `seed`, or its own; returns the path. */
export async function writeStudent(folder: string, student: string, seed = 1): Promise<string> {
  const isFile = student.endsWith('.onnx')
  if (!isFile && !mobile.includes(student)) return writeNetwork(folder, student, seed)
  const model = isFile ? await readModel(student) : buildNetwork({ family: student, classes: 10 }, { seed })
  joinGates(model.graph)
  const path = join(folder, `${basename(student, '.onnx')}-${seed}.onnx`)
  await writeModel(model, path)
  return path
}
