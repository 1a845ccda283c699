/**
 * Reverse-mode differentiation as a graph pass: appends the nodes that compute gradients to the graph itself, from the
 * gradient rules that ops declare. The driver owns what no rule repeats: pruning to the paths from the wanted values to
 * the seeds, accumulation over several uses, summing broadcast gradients back, straight-through nodes.
 *
 *   dL/dx = sum over uses of x in nodes n:  rule(n)(dL/dy)[input]
 *
 * Needs static shapes on the path (see runtime/isolated/infer-types.ts) and the graph at WORKING_OPSET. Does not apply through
 * If, Loop and Scan, nor through ops whose definition has no gradient: a model error names the node.
 */

import { modelError } from '../base/errors.ts'
import { optionTable } from '../base/options.ts'
import type { Builder } from '../graph/builder.ts'
import type { Graph, Node, Value } from '../graph/graph.ts'
import { isOverRanks, meanOverRanks } from '../graph/hints.ts'
import { marks } from '../graph/marks.ts'
import type { Model } from '../graph/model.ts'
import { trainableParameters } from '../layers/parameters.ts'
import { findOp, type GradientRule, requireOp, unsupportedNode } from '../ops/index.ts'
import { toWorkingOpset } from '../ops/raise-opset.ts'
import { sameDims, sumBack } from '../ops/support/emit.ts'
import { definePass } from '../pass-manager/define-pass.ts'
import { fixInputs } from '../runtime/isolated/infer-types.ts'
import { openDimsOption } from './shapes/open-dims-option.ts'
import { settleShapes } from './shapes/settle-shapes.ts'

export const STRAIGHT_THROUGH = 'straight-through'
const GRADIENT_PREFIX = 'grad/'

/**
 * Gradients of sum over seeds s of <s, seed(s)> with respect to each of `wrt`. `seeds` maps values to the gradient that
 * arrives at them (same dims). Values of `wrt` that no seed depends on are absent from the result. `watch` is told of the
 * gradients of each node's inputs when they are made, and of those of its outputs.
 */
export function differentiate(
  model: Model,
  seeds: ReadonlyMap<Value, Value>,
  wrt: readonly Value[],
  watch?: (node: Node, gradients: readonly (Value | null)[], dy: readonly (Value | null)[]) => void,
): Map<Value, Value> {
  const { graph } = model
  const nodes = [...graph.nodes()]
  const dependent = dependentValues(nodes, wrt)
  const parts = new Map<Value, Value[]>()
  for (const [v, seed] of seeds) if (dependent.has(v)) parts.set(v, [seed])
  const b = graph.append()
  const total = new Map<Value, Value>()
  const gradientOf = (v: Value): Value | null => {
    const done = total.get(v)
    if (done) return done
    const list = parts.get(v)
    if (!list) return null
    // Add by Add, not one Sum: onnxruntime's Sum runs on one core and cannot work in place
    const sum = list.reduce((a, g) => b.op('Add', [a, g], {}, { name: `d_${v.name}`, type: v.type }))
    total.set(v, sum)
    return sum
  }
  for (let i = nodes.length - 1; i >= 0; i--) {
    const node = nodes[i]!
    if (!node.outputs.some((v) => v && dependent.has(v) && parts.has(v))) continue
    const needs = node.inputs.map((v) => v !== null && dependent.has(v))
    if (!needs.includes(true) && node.subgraphs.length === 0) continue
    const dy = node.outputs.map((v) => (v && dependent.has(v) ? gradientOf(v) : null))
    const dx = gradientsOfNode(node, dy, needs, b)
    const fit = node.inputs.map((x, k) => (x && dx[k] && needs[k] ? fitShape(node, x, dx[k], b) : null))
    watch?.(node, fit, dy)
    node.inputs.forEach((x, k) => {
      const fitted = fit[k]
      if (!x || !fitted) return
      const list = parts.get(x)
      if (list) list.push(fitted)
      else parts.set(x, [fitted])
    })
  }
  moveAhead(nodes.at(-1) ?? null, seeds, graph)
  const result = new Map<Value, Value>()
  for (const v of wrt) {
    const g = gradientOf(v)
    if (g) result.set(v, g)
  }
  return result
}

/**
 * Refuses, before any work is done, a graph with a node between `wrt` and `targets` that has no gradient: a model error
 * that names domain, op and node.
 */
export function requireGradients(graph: Graph, wrt: readonly Value[], targets: readonly Value[]): void {
  const nodes = [...graph.nodes()]
  const dependent = dependentValues(nodes, wrt)
  const wanted = new Set(targets)
  for (const n of nodes.reverse()) {
    if (!n.outputs.some((v) => v && wanted.has(v) && dependent.has(v))) continue
    if (!readsAny(n, dependent)) continue
    if (marks.gradient.get(n) !== STRAIGHT_THROUGH) requireGradient(n)
    for (const v of n.inputs) if (v) wanted.add(v)
  }
}

function requireGradient(node: Node): GradientRule | 'zero' | 'decompose' {
  const { gradient } = requireOp(node)
  if (typeof gradient !== 'object') return gradient
  throw unsupportedNode(node, `no gradient: ${gradient.unsupported}`, 'freeze what comes before it, or replace it')
}

/**
 * Backward nodes that depend on forward values only (ReLU masks, flipped weights, 1 / sqrt(var)) go before all others.
 * onnxruntime executes depth first and takes a node's later inputs first, so this makes it compute them when they are
 * needed: standing after the gradient that they meet, all masks would be made, and kept, before it.
 */
function moveAhead(lastForward: Node | null, seeds: ReadonlyMap<Value, Value>, graph: Graph): void {
  const carries = new Set(seeds.values())
  const backward: Node[] = []
  for (let n = lastForward?.next ?? null; n; n = n.next) backward.push(n)
  let first: Node | null = null
  for (const n of backward) {
    if (n.inputs.some((v) => v && carries.has(v))) {
      first ??= n
      for (const v of n.outputs) if (v) carries.add(v)
    } else if (first) graph.move(n, first)
  }
}

/** Values that depend on one of `roots` (roots included). Integer values never do. */
function dependentValues(nodes: readonly Node[], roots: readonly Value[]): Set<Value> {
  const out = new Set(roots)
  for (const n of nodes) {
    if (!readsAny(n, out)) continue
    if (findOp(n)?.gradient === 'zero' && marks.gradient.get(n) !== STRAIGHT_THROUGH) continue
    for (const v of n.outputs) if (v && isDifferentiable(v)) out.add(v)
  }
  return out
}

/** Whether a node reads one of `values` itself or in a body (If, Loop, Scan). */
function readsAny(node: Node, values: ReadonlySet<Value>): boolean {
  if (node.inputs.some((v) => v && values.has(v))) return true
  return node.subgraphs.some(
    (g) => [...g.outputs].some((v) => values.has(v)) || [...g.nodes()].some((n) => readsAny(n, values)),
  )
}

const isDifferentiable = (v: Value): boolean =>
  v.type === null || v.type.elem.startsWith('float') || v.type.elem === 'bfloat16'

function gradientsOfNode(
  node: Node,
  dy: readonly (Value | null)[],
  needs: readonly boolean[],
  b: Builder,
): readonly (Value | null)[] {
  if (marks.gradient.get(node) === STRAIGHT_THROUGH) return [dy[0] ?? null]
  // y = mean of all x_r; the loss is the mean of all L_r, of which each rank seeds its own: dx = mean of all dy_r
  if (isOverRanks(node)) return [dy[0] ? meanOverRanks(b, dy[0]) : null]
  const gradient = requireGradient(node)
  if (gradient === 'zero') return []
  if (gradient === 'decompose')
    throw unsupportedNode(node, 'it has no gradient in this form', 'run decompose-ops first')
  for (const v of [...node.inputs, ...node.outputs]) if (v) requireStatic(node, v)
  return gradient({ node, dy, needs, b })
}

function requireStatic(node: Node, v: Value): void {
  const dims = v.constant?.dims ?? v.type?.dims
  if (dims?.every((d) => typeof d === 'number')) return
  throw modelError('dynamic-shape', `the shape of '${v.name}' is unknown, so ${node.label} has no gradient`, {
    node: node.id,
    next: 'give the model fixed input dims',
  })
}

/** Sums a gradient in the output's shape back to a broadcast input's shape; keeps the type otherwise. */
function fitShape(node: Node, x: Value, g: Value, b: Builder): Value {
  const type = { elem: x.constant?.type ?? x.type?.elem ?? 'float32', dims: x.dims } as const
  const straight = marks.gradient.get(node) === STRAIGHT_THROUGH
  if (!findOp(node)?.broadcasts || straight) {
    if (!g.type) g.setType(type)
    return g
  }
  const out = node.output.dims
  if (g.type && sameDims(g.dims, x.dims)) return g
  if (!g.type) g.setType({ elem: type.elem, dims: out })
  return sumBack(b, g, g.dims, x.dims)
}

/**
 * The pass form: every trainable parameter p gets a graph output `grad/<p>`, every float output y an input `seed/<y>` of
 * its shape, the gradient that arrives there. What train/step-graph builds is this with a loss and an update around it.
 */
export const autodiff = definePass({
  name: 'autodiff',
  summary: 'Append the gradients of all trainable parameters to the graph',
  options: optionTable(openDimsOption),
  isInner: true,
  preserves: 'nothing',
  bakes: true,
  async run(model, { batch }) {
    const { graph } = model
    if (graph.outputs.some((v) => v.name.startsWith(GRADIENT_PREFIX))) return false
    toWorkingOpset(model)
    fixInputs(model, { '*': batch })
    await settleShapes(model)
    const outputs = graph.outputs.filter((v) => v.type?.elem === 'float32')
    const seeds = new Map(outputs.map((v) => [v, graph.addInput(`seed/${v.name}`, v.type)]))
    const gradients = differentiate(model, seeds, trainableParameters(graph))
    for (const [v, g] of gradients) {
      const type = { elem: 'float32', dims: v.dims } as const
      graph.addOutput(graph.append().op('Identity', [g], {}, { name: GRADIENT_PREFIX + v.name, type }))
    }
    return true
  },
})
