/**
 * Which parts of a model a training step trains, and which the host may change between steps: chosen by their initializers, then
 * made parts of one flat graph input each (flat-layout.ts).
 */

import { type MncError, modelError } from '../../base/errors.ts'
import type { Builder } from '../../graph/builder.ts'
import type { Graph, Value } from '../../graph/graph.ts'
import { marks } from '../../graph/marks.ts'
import { Tensor } from '../../graph/tensor.ts'
import { PRUNE_MASK, weightLayers } from '../../layers/layers.ts'
import { trainableParameters } from '../../layers/parameters.ts'
import { STRAIGHT_THROUGH } from '../../passes/autodiff.ts'
import { FlatLayout } from './flat-layout.ts'
import { learnableScales } from './learned-scales.ts'
import type { FlatInput, StepBuilding } from './step-building.ts'
import { nameOf } from './step-names.ts'

/** Gradients pass masks as if they were not there: a weight that is pruned now may come back. */
export function passMasks({ graph }: StepBuilding): void {
  for (const n of graph.nodes()) if (marks.role.get(n) === PRUNE_MASK) marks.gradient.set(n, STRAIGHT_THROUGH)
}

/** Before quantisers are lowered: afterwards nothing tells a scale from another constant. */
export function chooseConstants(step: StepBuilding): void {
  const { graph, options, isHost } = step
  step.learned = options.learnScales ? learnableScales(graph) : []
  step.trained = trainableParameters(graph)
  step.hostConstants = [...graph.initializers()].filter((v) => v.constant?.type === 'float32' && isHost(nameOf(v)))
}

const isLeft = (v: Value): boolean => v.isUsed && v.constant !== null

/** Those that are left after lowering. */
export function chooseParameters(step: StepBuilding): void {
  const lowered = step.learned.filter((l) => !l.dequantize.attached)
  step.scales = new Map(lowered.map((l) => [nameOf(l.scale), l]))
  const weights = step.trained.filter(isLeft)
  // nobody means to train quantiser scales alone
  if (weights.length === 0) throw nothingToTrain(step.graph)
  step.parameters = [...weights, ...stepsOf(step)]
}

const stepsOf = ({ scales }: StepBuilding): Value[] => [...scales.values()].map((l) => l.scale).filter(isLeft)

/** Says what the weights are where none of them can be trained. */
function nothingToTrain(graph: Graph): MncError {
  const [layer] = weightLayers(graph)
  const integers = layer && !layer.tensor.type.includes('float')
  const next = !layer
    ? 'it has no layers with constant weights at all'
    : integers
      ? `its weights are ${layer.tensor.type} (quantised by another tool): start from the float model`
      : 'look for frozen parts with `mnc info`'
  return modelError('nothing-to-train', 'the model has no trainable float weight', { next })
}

/** Leaves out what only dead nodes read. */
export function flatten(step: StepBuilding): void {
  const { graph, parameters, hostConstants } = step
  step.stepNames = new Set(stepsOf(step).map(nameOf))
  const b = graph.prepend()
  step.weights = flatInput(b, parameters.filter(isLeft), 'weights')
  step.host = flatInput(b, hostConstants.filter(isLeft), 'host')
}

/** Replaces initializers by parts of one flat graph input. */
function flatInput(b: Builder, constants: readonly Value[], inputName: string): FlatInput {
  const layout = new FlatLayout(constants.map((v) => ({ name: nameOf(v), dims: v.constant!.dims })))
  if (constants.length === 0) return { layout, flat: null, values: [] }
  const { graph } = b
  const flat = graph.addInput(inputName, { elem: 'float32', dims: [layout.size] })
  const values = layout.unpack(b, flat)
  constants.forEach((v, i) => {
    graph.replaceUses(v, values[i]!)
    graph.removeInitializer(v)
  })
  return { layout, flat, values }
}

/** The flat inputs with the model's initial values. */
export function firstState({ student, weights, host }: StepBuilding): Record<string, Tensor> {
  const given = Object.entries({ weights, host }).filter(([, { flat }]) => flat)
  return Object.fromEntries(
    given.map(([name, { layout }]) => {
      const values = layout.pack((of) => student.graph.find(of)!.constant!.toFloat32())
      return [name, Tensor.float32([layout.size], values)]
    }),
  )
}
