/**
 * Puts BatchNormalization that a file holds in training mode into inference form: y = (x - mean) / sqrt(var + eps) with the
 * running mean and variance in place of the batch's. In training mode what a sample gives depends on the samples beside it,
 * which exporters leave in a file by mistake (training_mode = 1; before opset 14 more than one output; before 7 is_test = 0).
 *
 * Statistics that the node also gives out are the running ones afterwards, which inference does not move. Bodies of If, Loop and Scan
 * and functions are looked into too. Does not apply to statistics that are computed: they are used as they come.
 */
import { cloneModel } from '../graph/clone.ts'
import type { Node } from '../graph/graph.ts'
import type { Model } from '../graph/model.ts'
import { findOp } from '../ops/index.ts'
import { optionTable } from '../options.ts'
import { definePass } from './define-pass.ts'

const NAMED = 3

/** Nodes that normalise by the statistics of the batch, each with the opset that it is written in. */
function* inTraining(model: Model): Generator<{ readonly node: Node; readonly opset: number }> {
  const functions = model.functions.map((f) => ({ graph: f.graph, opset: f.opsets.get('') ?? model.opset }))
  for (const { graph, opset } of [{ graph: model.graph, opset: model.opset }, ...functions])
    for (const node of graph.allNodes()) if (findOp(node)?.batchMode?.isOn(node, opset)) yield { node, opset }
}

/** What whoever runs or compresses the model should know; null where all nodes are in inference form. */
export function trainingWarning(model: Model): string | null {
  const names = Array.from(inTraining(model), ({ node }) => `'${node.id}'`)
  if (names.length === 0) return null
  const shown = [...names.slice(0, NAMED), ...(names.length > NAMED ? ['...'] : [])].join(', ')
  const [what, they] = names.length === 1 ? ['node is', 'it'] : ['nodes are', 'them']
  return `WARNING: ${names.length} BatchNormalization ${what} in training mode (${shown}), so that outputs depend on the rest of the batch; \`mnc pass infer-bn\` makes ${they} use running statistics`
}

/** Puts all of them into inference form; true where there were any. */
export function useRunningStatistics(model: Model): boolean {
  const found = [...inTraining(model)]
  for (const { node, opset } of found) findOp(node)!.batchMode!.turnOff(node, opset)
  return found.length > 0
}

/** The model, or a copy in inference form where it is not: for what is found out by running it. */
export function inferenceForm(model: Model): Model {
  if (trainingWarning(model) === null) return model
  const copy = cloneModel(model)
  useRunningStatistics(copy)
  return copy
}

export const inferBn = definePass({
  name: 'infer-bn',
  summary: 'Put BatchNormalization in training mode into inference form: running statistics instead of the batch’s',
  options: optionTable({}),
  preserves: 'interface',
  run: useRunningStatistics,
})
