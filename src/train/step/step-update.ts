/** The optimiser's part of a training step (optimizers.ts), over the flat weights. */

import { Graph, type Value } from '../../graph/graph.ts'
import { Model } from '../../graph/model.ts'
import { WORKING_OPSET } from '../../ops/raise-opset.ts'
import type { FlatLayout } from './flat-layout.ts'
import { boundShrink } from './learned-scales.ts'
import { emitUpdate, type Factor, hyperInputsOf, slotsOf } from './optimizers.ts'
import type { StepBuilding } from './step-building.ts'
import { nameOutput } from './step-names.ts'
import type { StepOptions } from './step-options.ts'

/** In the step graph itself or, where gradients are accumulated, as a graph of its own. */
export function emitUpdates(step: StepBuilding): void {
  const { graph, options, weights, gradient } = step
  const { layout, flat } = weights
  const vector = { elem: 'float32', dims: [layout.size] } as const
  const micro = options.accumulate ?? 1
  if (micro === 1) {
    emitOptimizer(graph, step, flat!, gradient)
    return
  }
  const b = graph.append()
  const share = b.op('Mul', [gradient, b.scalar(1 / micro)])
  nameOutput(graph, b.op('Add', [graph.addInput('accumulated', vector), share]), 'next_accumulated')
  step.update = new Model(new Graph('update'), WORKING_OPSET)
  const own = step.update.graph
  emitOptimizer(own, step, own.addInput('weights', vector), own.addInput('accumulated', vector))
}

/** `graph`: the step's, or one of its own. */
function emitOptimizer(graph: Graph, step: StepBuilding, weights: Value, gradient: Value): void {
  const { options, stepNames } = step
  const { optimizer: o } = options
  const { layout } = step.weights
  const vector = (name: string): Value => graph.addInput(name, { elem: 'float32', dims: [layout.size] })
  const slots = slotsOf(o.optimizer).map(vector)
  const hyper = Object.fromEntries(
    hyperInputsOf(o.optimizer).map((n) => [n, graph.addInput(n, { elem: 'float32', dims: [] })]),
  )
  const update = emitUpdate(graph.append(), o, {
    weights,
    gradient,
    slots,
    hyper,
    weightDecay: perParameter(layout, o.weightDecay, decayOf(step)),
    learningRate: perParameter(layout, 1, options.learningRateOf),
  })
  nameOutput(graph, update.gradientNorm, 'gradient_norm')
  const bounded = stepNames.size > 0
  const next = bounded ? boundShrink(graph.append(), update.weights, weights, layout, stepNames) : update.weights
  nameOutput(graph, next, 'next_weights')
  update.slots.forEach((v, i) => {
    nameOutput(graph, v, `next_${slots[i]!.name}`)
  })
}

/** Quantiser scales get no weight decay: it would pull them towards clipping everything. */
function decayOf({ options, scales }: StepBuilding): StepOptions['weightDecayOf'] {
  const { weightDecayOf } = options
  if (scales.size === 0) return weightDecayOf
  return (name) => (scales.has(name) ? 0 : (weightDecayOf?.(name) ?? 1))
}

/** One number where all factors agree, a vector otherwise. */
function perParameter(layout: FlatLayout, base: number, of: ((name: string) => number) | undefined): Factor {
  if (!of) return base
  const factors = layout.entries.map((e) => base * of(e.name))
  if (factors.every((f) => f === factors[0])) return factors[0] ?? base
  return layout.perEntry((name) => base * of(name)).view('float32')
}
