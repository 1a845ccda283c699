/**
 * BatchNormalization that a file holds in training mode (training_mode = 1; before opset 14 more than one output; before 7
 * is_test = 0): a sample's output then depends on the other samples in its batch. Bodies of If, Loop and Scan and functions are
 * looked into too.
 */
import { cloneModel } from '../graph/clone.ts'
import type { Node } from '../graph/graph.ts'
import type { Model } from '../graph/model.ts'
import { findOp } from '../ops/index.ts'

const NAMED = 3

/** Nodes that normalise by the statistics of the batch, each with the opset that it is written in. */
function* inTraining(model: Model): Generator<{ readonly node: Node; readonly opset: number }> {
  const functions = model.functions.map((f) => ({ graph: f.graph, opset: f.opsets.get('') ?? model.opset }))
  for (const { graph, opset } of [{ graph: model.graph, opset: model.opset }, ...functions])
    for (const node of graph.allNodes()) if (findOp(node)?.batchMode?.isOn(node, opset)) yield { node, opset }
}

/** The warning for running or compressing the model; null if all nodes are in inference form. */
export function trainingWarning(model: Model): string | null {
  const names = Array.from(inTraining(model), ({ node }) => `'${node.id}'`)
  if (names.length === 0) return null
  const shown = [...names.slice(0, NAMED), ...(names.length > NAMED ? ['...'] : [])].join(', ')
  const [what, they] = names.length === 1 ? ['node is', 'it'] : ['nodes are', 'them']
  return `WARNING: ${names.length} BatchNormalization ${what} in training mode (${shown}), so outputs depend on the rest of the batch; \`mnc pass infer-bn\` makes ${they} use running statistics`
}

/** Puts all of them into inference form; true where there were any. */
export function useRunningStatistics(model: Model): boolean {
  const found = [...inTraining(model)]
  for (const { node, opset } of found) findOp(node)!.batchMode!.turnOff(node, opset)
  return found.length > 0
}

/** The model, or a copy in inference form where it is not: for learning something by running it. */
export function inferenceForm(model: Model): Model {
  if (trainingWarning(model) === null) return model
  const copy = cloneModel(model)
  useRunningStatistics(copy)
  return copy
}
