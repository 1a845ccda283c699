/**
 * BatchNormalization in training form, with an addition and the activation behind it, as one node of `step.mnc`, and its gradient with the
 * activation's as another (native/operators.c). In standard operators they are some 25 passes over the feature map.
 *
 * Which nodes are whose gradient is said by the marks that differentiation leaves (`gradientsIn`). Applies to float32 feature maps
 * whose batch statistics have no gradient of their own; an activation is part of it where nothing else reads what it reads.
 */
import type { Graph, Node, Value } from '../../graph/graph.ts'
import { type Gradients, withOriginOf } from '../../graph/hints.ts'
import { isStatic } from '../../graph/types.ts'
import { isAddition, isChannelNorm, isInBatchMode } from '../../ops/facts.ts'
import { activationOf, attributesOf, float, LINEAR, takePlace } from './activation.ts'
import { GRADIENT, NORM, NORM_ADD, STEP_DOMAIN } from './operators.ts'

/** Those whose gradients and results are fused. */
export const fusableNorms = (graph: Graph): readonly Node[] => [...graph.nodes()].filter(isFusable)

/** The form that `inOneKernel` makes (train/step/batch-statistics.ts). */
function isFusable(n: Node): boolean {
  if (!isChannelNorm(n) || !isInBatchMode(n) || n.float('momentum', 0.9) !== 0) return false
  const { type } = n.input(0)
  const whole = type?.elem === 'float32' && isStatic(type.dims) && type.dims.length >= 2 && !type.dims.includes(0)
  return whole && n.outputs.length === 3 && n.outputs[0]?.isUsed === true
}

/** In the forward order of all: a gradient that another norm gives is in place when that one's turn comes. */
export function fuseGradient(n: Node, gradients: Gradients): void {
  const own = gradients.of(n)
  const [dx, dscale, dbias] = [0, 1, 2].map((i) => own?.inputs[i] ?? null)
  const [g, dm, dv] = own?.outputs ?? []
  if (!own || !dx?.producer || !g || dm || dv) return
  const [mean, variance] = n.outputs.slice(1) as [Value, Value]
  const behind = activationBehind(n, gradients, g)
  const b = n.graph.before(dx.producer)
  const inputs = [behind?.dy ?? g, n.input(0), mean, variance, n.input(1), n.input(2)]
  const made = b.ops(GRADIENT, inputs, 3, normAttributes(n, behind?.activation ?? LINEAR), {
    domain: STEP_DOMAIN,
    ...withOriginOf(dx.producer),
  })
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

/** After the gradients: these tell what still reads what lies between the norm and its activation. */
export function fuse(n: Node): void {
  const sum = loneReader(n, (r) => isAddition(r) && otherOperand(r, n.output) !== null)
  const other = sum && otherOperand(sum, n.output)
  const last = sum ?? n
  const activated = loneReader(last, (r) => activationOf(r) !== null)
  const attributes = normAttributes(n, (activated && activationOf(activated)) ?? LINEAR)
  const b = n.graph.before(last)
  const [x, scale, bias] = [n.input(0), n.input(1), n.input(2)]
  const options = { domain: STEP_DOMAIN, ...withOriginOf(n) }
  const made = other
    ? b.ops(NORM_ADD, [x, other, scale, bias], 3, attributes, options)
    : b.ops(NORM, [x, scale, bias], 3, attributes, options)
  const results = [(activated ?? last).output, ...n.outputs.slice(1)]
  for (const [i, from] of results.entries()) takePlace(made[i]!, from!, n.input(i).type)
}

/** The only reader of what the node gives. */
function loneReader({ output }: Node, test: (n: Node) => boolean): Node | null {
  const [reader, ...others] = output.uses
  return reader && others.length === 0 && !output.isOutput && test(reader) ? reader : null
}

/** What is added to a value of the same dims; null where the two are the same. */
function otherOperand({ inputs }: Node, v: Value): Value | null {
  const other = inputs.find((x) => x !== v)
  return inputs.length === 2 && other?.type?.dims?.join() === v.type?.dims?.join() ? (other ?? null) : null
}

const normAttributes = (n: Node, activation: typeof LINEAR) => ({
  ...{ ...attributesOf(activation), lanes: 1, epsilon: float(n.float('epsilon', 1e-5)) },
})

export function removeUnread(graph: Graph): void {
  for (const n of graph.nodesReversed()) if (!n.outputs.some((v) => v?.isUsed)) graph.remove(n)
}
