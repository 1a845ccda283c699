/**
 * The ONNX node tests: one small model each, with inputs and the outputs that the standard expects. Cases whose values
 * are not dense tensors of types that cross into onnxruntime-node are not applicable.
 */
import { existsSync, readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { decodeModel } from '../../src/codec/codec.ts'
import { decodeTensor } from '../../src/codec/codec-tensor.ts'
import { DataFiles } from '../../src/codec/external-data.ts'
import { decodeProto } from '../../src/codec/proto.ts'
import type { Model } from '../../src/graph/model.ts'
import type { Tensor } from '../../src/graph/tensor.ts'
import type { ElementType } from '../../src/graph/types.ts'
import { ortExecutor } from '../../src/runtime/ort/ort.ts'

export const nodeTestFolder = join(import.meta.dirname, '../../.data/node-tests')

/** Names of all cases; empty where the data are not there. */
export const nodeTests = (): string[] => (existsSync(nodeTestFolder) ? readdirSync(nodeTestFolder).sort() : [])

export interface NodeCase {
  readonly name: string
  /** Decoded anew at each call. */
  readonly model: () => Model
  readonly feeds: Readonly<Record<string, Tensor>>
  readonly expected: Readonly<Record<string, Tensor>>
}

/** onnxruntime-node ends the process where a graph output has another type. */
const crossing = new Set<ElementType>([
  ...(['float32', 'float64', 'float16', 'bool', 'uint8', 'int8', 'uint16', 'int16'] as const),
  ...(['int32', 'uint32', 'int64', 'uint64'] as const),
])

/** A case, or why it is not applicable. */
export function readNodeTest(name: string): NodeCase | string {
  const folder = join(nodeTestFolder, name)
  const bytes = readFileSync(join(folder, 'model.onnx'))
  const model = () => decodeModel(bytes, { folder })
  const { graph } = model()
  const values = [...graph.inputs, ...graph.outputs]
  if (values.some((v) => v.type === null)) return 'sequence, map or optional values'
  const foreign = values.find((v) => !crossing.has(v.type!.elem))
  if (foreign) return `values of type ${foreign.type!.elem}`
  const data = join(folder, 'test_data_set_0')
  const feeds: Record<string, Tensor> = {}
  const expected: Record<string, Tensor> = {}
  graph.inputs.forEach((v, i) => {
    const file = join(data, `input_${i}.pb`)
    if (existsSync(file)) feeds[v.name] = readTensor(file)
  })
  graph.outputs.forEach((v, i) => {
    expected[v.name] = readTensor(join(data, `output_${i}.pb`))
  })
  return { name, model, feeds, expected }
}

const readTensor = (file: string): Tensor =>
  decodeTensor(decodeProto('TensorProto', readFileSync(file)), file, new DataFiles(undefined))

/** Runs a model on a case's inputs: null where its outputs are the expected ones, otherwise what is wrong. */
export async function mismatch(model: Model, { feeds, expected }: NodeCase): Promise<string | null> {
  const session = await ortExecutor().load(model, { threads: 1 })
  const given = Object.fromEntries(session.inputNames.flatMap((n) => (feeds[n] ? [[n, feeds[n]]] : [])))
  const got = await session.run(given)
  await session.dispose()
  for (const [name, want] of Object.entries(expected)) {
    const have = got[name]
    if (!have) return `output '${name}' is missing`
    const wrong = difference(have, want)
    if (wrong) return `output '${name}': ${wrong}`
  }
  return null
}

/** The tolerance of ONNX's own backend tests, 1e-3 relative, with 1e-5 absolute for values near zero. */
function difference(have: Tensor, want: Tensor): string | null {
  if (have.type !== want.type) return `${have.type} for ${want.type}`
  if (have.dims.join() !== want.dims.join()) return `dims [${have.dims.join()}] for [${want.dims.join()}]`
  const [a, b] = [have.toNumbers(), want.toNumbers()]
  for (let i = 0; i < b.length; i++) {
    const [x, y] = [a[i]!, b[i]!]
    if (x === y || (Number.isNaN(x) && Number.isNaN(y))) continue
    if (!(Math.abs(x - y) <= 1e-5 + 1e-3 * Math.abs(y))) return `${x} for ${y} at ${i}`
  }
  return null
}
