/**
 * Which layers onnxruntime runs as integer kernels, read from the optimised graph that it writes for this machine, and
 * why the others stay in floats. A layer is found again by the name of its integer weights, which integer kernels keep
 * as an operand.
 */

import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { temporaryFolder } from '../base/files.ts'
import { readModel } from '../codec/codec.ts'
import type { Node } from '../graph/graph.ts'
import { marks } from '../graph/marks.ts'
import type { Model } from '../graph/model.ts'
import { constantValues } from '../layers/constants.ts'
import { CORRECTION } from '../layers/layers.ts'
import { dequantizeBehind } from '../ops/facts.ts'
import { weightSlots } from '../ops/index.ts'
import { loadIsolated } from '../runtime/isolated/engine.ts'
import { inputStep, quantisedBehind } from './weights/layer-form.ts'

export interface KernelChoice {
  /** The layer's node or output. */
  readonly layer: string
  readonly op: string
  /** The operator in the optimised graph, where it is an integer one. */
  readonly kernel: string | null
  /** Why it stays in floats; empty for integer kernels. */
  readonly reason: string
}

/** Which kernels an exported file will run on, and why not faster ones. */
export interface Explanation {
  readonly layers: readonly KernelChoice[]
  /** Nodes of the optimised graph by operator. */
  readonly ops: Readonly<Record<string, number>>
  /** Operators of the decode that onnxruntime left to run on every call. */
  readonly unfolded: readonly string[]
}

/** QLinearConv, ConvInteger, QGemm, MatMulInteger, MatMulNBits, ... */
const integerKernel = /^(QLinear|Q[A-Z]|DynamicQuantize)|Integer|NBits/

/** What onnxruntime turns the model into at ORT_ENABLE_ALL. */
export async function explainKernels(model: Model): Promise<Explanation> {
  const optimised = await optimise(model)
  const ops: Record<string, number> = {}
  const kernelOf = new Map<string, string>()
  for (const n of optimised.graph.nodes()) {
    ops[n.op] = (ops[n.op] ?? 0) + 1
    if (integerKernel.test(n.op)) for (const v of n.inputs) if (v?.constant) kernelOf.set(v.name, n.op)
  }
  const constant = constantValues(model.graph)
  const layers: KernelChoice[] = []
  for (const node of model.graph.nodes()) {
    const slot = marks.role.get(node) === CORRECTION ? undefined : weightSlots(node)[0]
    const weight = slot && node.inputs[slot.input]
    if (!weight || !constant.has(weight) || constant.has(node.output)) continue
    const integers = dequantizeBehind(weight)?.input(0).name ?? ''
    const kernel = kernelOf.get(integers) ?? null
    layers.push({ layer: node.id, op: node.op, kernel, reason: kernel ? '' : reasonOf(node, integers !== '') })
  }
  const left = [...optimised.graph.nodes()].filter((n) => n.inputs.length > 0 && n.inputs.every((v) => v?.constant))
  return { layers, ops, unfolded: left.map((n) => n.op) }
}

function reasonOf(node: Node, integers: boolean): string {
  if (inputStep(node) === null) return 'its input is not quantised'
  if (!integers) return 'its weights are not quantised, or reach onnxruntime as floats'
  const behind = quantisedBehind(node)
  if (behind === 'all') return 'onnxruntime did not fuse it'
  const readers = [...new Set([...node.output.uses].map((n) => n.op))].join(', ') || 'the output of the model'
  return behind === 'some'
    ? `its output is also read as floats (${readers})`
    : `its output is not quantised (${readers})`
}

async function optimise(model: Model): Promise<Model> {
  const folder = await temporaryFolder(join(tmpdir(), 'mnc-explain-'))
  try {
    const path = join(folder.path, 'optimised.onnx')
    const session = await loadIsolated(model, { optimization: 'all', optimizedModelPath: path })
    await session.dispose()
    return await readModel(path)
  } finally {
    await folder.remove()
  }
}
