/** The backward pass of a training step: the flat gradient of its loss with respect to the flat weights. */

import type { Value } from '../../graph/graph.ts'
import { markGradients } from '../../graph/hints.ts'
import { findOp } from '../../ops/index.ts'
import { differentiate } from '../../passes/autodiff.ts'
import { removeDead } from '../../passes/eliminate-dead.ts'
import { lowerCostly } from '../../passes/lower-costly.ts'
import { inferTypes } from '../../runtime/isolated/infer-types.ts'
import { gradientFactor } from './learned-scales.ts'
import { narrowStep } from './mixed-precision.ts'
import { originsOfGradients } from './origins.ts'
import type { StepBuilding } from './step-building.ts'
import { resultsOf } from './step-objectives.ts'

/** In mixed precision the gradient that arrives at the loss is the scale of it. */
export function emitBackward(step: StepBuilding): void {
  const { model, graph, options, loss, weights } = step
  step.lossScale = options.precision === 'float16' ? graph.addInput('loss_scale', { elem: 'float32', dims: [] }) : null
  const seed = step.lossScale ?? graph.append().scalar(1)
  const origins = options.origins ? originsOfGradients(step) : undefined
  step.gradients = differentiate(model, new Map([[loss, seed]]), weights.values, (node, inputs, outputs) => {
    markGradients(node, { outputs, inputs: inputs.map(unshaped) })
    origins?.(node, inputs)
  })
  lowerCostly(graph)
}

/** Before it was only given another shape, which the flat gradient does without (FlatLayout.concat). */
function unshaped(g: Value | null): Value | null {
  const made = g?.producer
  return made && findOp(made)?.carries === 'shape' ? unshaped(made.input(0)) : g
}

/** Mixed precision for everything that computes the step's results and gradients, which stay in float32 themselves. */
export async function narrow(step: StepBuilding): Promise<void> {
  const { model, graph, lossScale, logits, gradients } = step
  if (!lossScale) return
  const wide = new Set([...resultsOf(step), logits, ...gradients.values()])
  const added = [...wide].filter((v) => !v.isOutput)
  for (const v of added) graph.addOutput(v)
  removeDead(graph)
  await inferTypes(model)
  narrowStep(model)
  for (const v of added) graph.removeOutput(v)
}

/** Quantiser scales' gradients are multiplied by their own factors; the loss scale is divided out of all. */
export function joinGradients(step: StepBuilding): void {
  const { graph, weights, gradients, scales, lossScale } = step
  const { layout, values } = weights
  const gradientOf = (v: Value, name: string): Value | null => {
    const g = gradients.get(v) ?? null
    const scale = scales.get(name)
    return g && scale ? graph.append().op('Mul', [g, graph.append().scalar(gradientFactor(scale))]) : g
  }
  const parts = values.map((v, i) => gradientOf(v, layout.entries[i]!.name))
  const joined = layout.concat(graph.append(), parts, lossScale ? 'scaled_gradient' : 'gradient')
  step.gradient = lossScale ? graph.append().op('Div', [joined, lossScale], {}, { name: 'gradient' }) : joined
}
