/** The data inputs of a training step: which one is fed, and at which sizes. */
import { modelError } from '../../base/errors.ts'
import type { Graph, Value } from '../../graph/graph.ts'
import type { StepBuilding } from './step-building.ts'
import { nameOf } from './step-names.ts'

export function fixInputs(step: StepBuilding): void {
  const { graph, options } = step
  step.input = options.inputDims ? graph.fed[0]! : soleInput(graph)
  const dims = options.inputDims ?? {}
  for (const v of graph.inputs) if (v.type && dims[nameOf(v)]) v.setType({ elem: v.type.elem, dims: dims[nameOf(v)]! })
}

/** The one data input of a model; a model error where there are several. */
export function soleInput(graph: Graph): Value {
  const inputs = graph.fed
  if (inputs.length !== 1)
    throw modelError('several-inputs', `the model has ${inputs.length} inputs; training feeds exactly one`)
  return inputs[0]!
}

/** The batch size is part of a step graph: shapes on the gradient's path must be known. */
export function fixBatch(input: Value, batch: number): void {
  const dims = input.type?.dims
  if (input.type && dims && dims.length > 0) input.setType({ elem: input.type.elem, dims: [batch, ...dims.slice(1)] })
}
