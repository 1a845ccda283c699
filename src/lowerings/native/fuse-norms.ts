/**
 * BatchNormalization in training form, with the activation behind it, as one node of `mnc.step`, and its gradient with the
 * activation's as another (native/operators.c). In standard operators they are some 25 passes over the feature map.
 *
 * Which nodes are whose gradient is said by the marks that differentiation leaves (`gradientsIn`). Applies to float32 feature maps
 * whose batch statistics have no gradient of their own; an activation is part of it where nothing else reads what it reads.
 */
import type { Graph, Node, Value } from '../../graph/graph.ts'
import { type Gradients, gradientsIn } from '../../graph/hints.ts'
import { isStatic } from '../../graph/types.ts'
import { isChannelNorm, isInBatchMode, isRectifier, type Ramp } from '../../ops/facts.ts'
import { findOp } from '../../ops/index.ts'
import { GRADIENT, NORM, STEP_DOMAIN } from './operators.ts'

/** Attributes of an activation; the numbers of its kinds are those of native/kernels.h. */
interface Activation {
  readonly activation: 0 | 1 | 2 | 3
  readonly least: number
  readonly most: number
}

const LINEAR: Activation = { activation: 0, least: 0, most: 0 }

/** Returns how many there were. */
export function fuseNorms(graph: Graph): number {
  const gradients = gradientsIn(graph)
  const norms = [...graph.nodes()].filter(isFusable)
  // in the forward order: a gradient that another norm gives is in place when that one's turn comes
  for (const n of norms) fuseGradient(n, gradients)
  removeUnread(graph)
  for (const n of norms) fuse(n)
  removeUnread(graph)
  return norms.length
}

/** The form that `inOneKernel` makes (train/step/batch-statistics.ts). */
function isFusable(n: Node): boolean {
  if (!isChannelNorm(n) || !isInBatchMode(n) || n.float('momentum', 0.9) !== 0) return false
  const { type } = n.input(0)
  const whole = type?.elem === 'float32' && isStatic(type.dims) && type.dims.length >= 2 && !type.dims.includes(0)
  return whole && n.outputs.length === 3 && n.outputs[0]?.isUsed === true
}

function fuseGradient(n: Node, gradients: Gradients): void {
  const own = gradients.of(n)
  const [dx, dscale, dbias] = [0, 1, 2].map((i) => own?.inputs[i] ?? null)
  const [g, dm, dv] = own?.outputs ?? []
  if (!own || !dx?.producer || !g || dm || dv) return
  const [mean, variance] = n.outputs.slice(1) as [Value, Value]
  const behind = activationBehind(n, gradients, g)
  const b = n.graph.before(dx.producer)
  const inputs = [behind?.dy ?? g, n.input(0), mean, variance, n.input(1), n.input(2)]
  const made = b.ops(GRADIENT, inputs, 3, attributesOf(n, behind?.activation ?? LINEAR), { domain: STEP_DOMAIN })
  for (const [i, from] of [dx, dscale, dbias].entries()) {
    if (from) takePlace(made[i]!, from, n.input(i).type)
  }
}

/** The activation that alone takes part in the gradient `g` of the norm's result. */
function activationBehind(n: Node, gradients: Gradients, g: Value) {
  for (const reader of n.output.uses) {
    const activation = activationOf(reader)
    const own = activation && gradients.of(reader)
    const dy = own?.outputs[0]
    if (activation && dy && own.inputs[0] === g) return { activation, dy }
  }
  return null
}

function fuse(n: Node): void {
  const [reader, ...others] = n.output.uses
  const alone = reader && others.length === 0 && !n.output.isOutput
  const activation = alone ? activationOf(reader) : null
  const result = activation ? reader!.output : n.output
  const b = n.graph.before(n)
  const inputs = [n.input(0), n.input(1), n.input(2)]
  const made = b.ops(NORM, inputs, 3, attributesOf(n, activation ?? LINEAR), { domain: STEP_DOMAIN })
  for (const [i, from] of [result, ...n.outputs.slice(1)].entries()) takePlace(made[i]!, from!, n.input(i).type)
}

/** With the name, by which marks know operands. */
function takePlace(v: Value, old: Value, type: Value['type']): void {
  const { graph } = v
  const { name } = old
  v.setType(old.type ?? type)
  graph.replaceUses(old, v)
  graph.rename(old, graph.freshName(name))
  graph.rename(v, name)
}

const attributesOf = (n: Node, { activation, least, most }: Activation) => ({
  ...{ lanes: 1, activation, epsilon: float(n.float('epsilon', 1e-5)) },
  ...{ least: float(least), most: float(most) },
})

const float = (value: number) => ({ kind: 'float', value }) as const

function activationOf(n: Node): Activation | null {
  if (isRectifier(n)) return { ...LINEAR, activation: 1 }
  const op = findOp(n)
  const gate = op?.gatedBy
  if (gate) return isHardSwish(gate) ? { ...LINEAR, activation: 3 } : null
  const ramp = op?.ramp?.(n)
  if (ramp?.input !== 0 || ramp.slope !== 1 || ramp.offset !== 0 || n.outputs.length > 1) return null
  const { least, most } = ramp
  return Number.isFinite(least) && Number.isFinite(most) ? { activation: 2, least, most } : null
}

const isHardSwish = ({ slope, offset, least, most }: Ramp): boolean =>
  slope === 1 / 6 && offset === 0.5 && least === 0 && most === 1

function removeUnread(graph: Graph): void {
  for (const n of graph.nodesReversed()) if (!n.outputs.some((v) => v?.isUsed)) graph.remove(n)
}
