/**
 * Which initializers are trained. By nature: an op's parameter inputs (weights, biases, BN scale and bias). Also: any
 * float initializer of more than one element in a differentiable input (a bias added by Add, a learned per-channel Mul),
 * where the node depends on a parameter already or the constant is after one. Never: frozen ones, state inputs (running
 * statistics), masks and quantiser scales, integer constants, single numbers (the 1/6 of an h-swish).
 */

import type { Graph, Node, Value } from '../graph/graph.ts'
import { marks } from '../graph/marks.ts'
import { findOp } from '../ops/index.ts'

export function trainableParameters(graph: Graph): Value[] {
  const found = new Set<Value>()
  const excluded = new Set<Value>()
  const dependent = new Set<Value>()
  for (const node of graph.nodes()) {
    const def = findOp(node)
    const helper = marks.role.has(node)
    node.inputs.forEach((v, i) => {
      if (!v?.constant) return
      const isState = def?.state?.includes(i) || (helper && i > 0)
      if (isState || marks.frozen.is(v) || marks.frozen.is(node)) excluded.add(v)
      else if (isTrainable(node, v, i, dependent)) found.add(v)
    })
    if (node.inputs.some((v) => v && (found.has(v) || dependent.has(v))))
      for (const v of node.outputs) if (v) dependent.add(v)
  }
  return [...found].filter((v) => !excluded.has(v))
}

function isTrainable(node: Node, v: Value, i: number, dependent: ReadonlySet<Value>): boolean {
  if (v.constant?.type !== 'float32') return false
  const def = findOp(node)
  if (def?.parameters) return def.parameters.includes(i)
  if (marks.role.has(node)) return i === 0
  if (!def || typeof def.gradient !== 'function') return false
  // a weight may pass ops that only carry it on the way to the op that multiplies with it
  const behindParameter = node.inputs.some((x) => x && dependent.has(x))
  return v.constant.size > 1 && (behindParameter || def.carries !== undefined)
}
