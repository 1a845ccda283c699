/**
 * One graph that computes how far the channels of a batch are from what normalisations remember,
 *
 *   L = mean over normalisations of  mean over channels of  ((m - mu) / sigma)^2 + (s / sigma - 1)^2
 *
 * with m and s the batch's mean and deviation, and the gradient of that with respect to the float inputs.
 */
import type { Value } from '../../graph/graph.ts'
import type { Model } from '../../graph/model.ts'
import { Tensor } from '../../graph/tensor.ts'
import type { Remembered } from '../../layers/remembered.ts'
import { differentiate, requireGradients } from '../../passes/autodiff.ts'
import { removeDead } from '../../passes/eliminate-dead.ts'
import { lowerCostly } from '../../passes/lower-costly.ts'
import { settleShapes } from '../../passes/shapes/settle-shapes.ts'
import type { Session } from '../../runtime/executor.ts'
import { ortExecutor } from '../../runtime/ort/ort.ts'

/** Keeps the gradient of a square root finite. */
const EPSILON = 1e-8

const scalar = { elem: 'float32', dims: [] } as const

export interface InputStep {
  readonly session: Session
  /** Inputs that have a gradient, and the outputs that hold it. */
  readonly gradients: ReadonlyMap<string, string>
}

/** Name of the output that holds L. */
export const LOSS = 'synthetic/loss'

/** `model`, whose input dims are fixed, is used up. A model error where the way to a normalisation has no gradient. */
export async function inputStep(model: Model, remembered: readonly Remembered[]): Promise<InputStep> {
  const { graph } = model
  await settleShapes(model)
  const b = graph.append()
  const parts = remembered.map((r) => distanceOf(model, r))
  const sum = parts.reduce((a, p) => b.op('Add', [a, p], {}, { type: scalar }))
  const loss = b.op('Mul', [sum, b.scalar(1 / parts.length)], {}, { type: scalar })
  const wanted = graph.fed.filter((v) => v.type?.elem === 'float32')
  requireGradients(graph, wanted, [loss])
  const gradients = differentiate(model, new Map([[loss, b.scalar(1)]]), wanted)
  lowerCostly(graph)
  for (const v of [...graph.outputs]) graph.removeOutput(v)
  graph.addOutput(loss)
  graph.rename(loss, LOSS)
  const names = new Map<string, string>()
  for (const [v, g] of gradients) {
    const out = graph.append().op('Identity', [g], {}, { name: `synthetic/gradient${names.size}` })
    graph.addOutput(out)
    names.set(v.name, out.name)
  }
  removeDead(graph)
  return { session: await ortExecutor().load(model, { step: true }), gradients: names }
}

function distanceOf({ graph }: Model, { value, mean, deviation }: Remembered): Value {
  const b = graph.append()
  const { dims } = value
  const channels = mean.length
  const shape = dims.map((_, i) => (i === 1 ? channels : 1))
  const axes = b.ints(dims.flatMap((_, i) => (i === 1 ? [] : [i])))
  const whole = { elem: 'float32', dims } as const
  const own = { elem: 'float32', dims: shape } as const
  const constant = (name: string, x: Float32Array): Value => b.initializer(name, Tensor.float32(shape, x))
  const inverse = constant(
    'synthetic/inverse',
    deviation.map((d) => 1 / d),
  )
  const average = (x: Value): Value => b.op('ReduceMean', [x, axes], { keepdims: 1 }, { type: own })
  const m = average(value)
  const centred = b.op('Sub', [value, m], {}, { type: whole })
  const variance = average(b.op('Mul', [centred, centred], {}, { type: whole }))
  const s = b.op('Sqrt', [b.op('Add', [variance, b.scalar(EPSILON)], {}, { type: own })], {}, { type: own })
  const off = b.op('Sub', [m, constant('synthetic/mean', mean)], {}, { type: own })
  const far = b.op('Mul', [off, inverse], {}, { type: own })
  const wide = b.op('Sub', [b.op('Mul', [s, inverse], {}, { type: own }), b.scalar(1)], {}, { type: own })
  const squares = [far, wide].map((x) => b.op('Mul', [x, x], {}, { type: own }))
  const both = b.op('Add', squares, {}, { type: own })
  const total = b.op('ReduceSum', [both], { keepdims: 0 }, { type: scalar })
  return b.op('Mul', [total, b.scalar(1 / channels)], {}, { type: scalar })
}
