/**
 * How large a model becomes when every call of a model-local function is replaced by the function's body, counted
 * without doing so: nodes(g) = sum over its nodes of 1, or of nodes(f) where the node calls f. Functions that call each
 * other twice double with each level: 30 of them are a billion nodes in a file of 2 KB.
 */
import { modelError } from '../base/errors.ts'
import type { Graph } from './graph.ts'
import type { FunctionDef, Model } from './model.ts'

/** Functions calling functions: no exporter comes near this depth. */
const MAX_DEPTH = 64

/** A graph of this many nodes takes about 1 GB; exports of large language models have some 50,000. */
const MAX_NODES = 500_000

export const functionKey = (domain: string, name: string, overload: string): string =>
  JSON.stringify([domain, name, overload])

/** A model error where the calls cannot be replaced: a function calls itself, or there would be too many nodes. */
export function requireInlinable(model: Model): void {
  if (model.functions.length === 0) return
  const nodes = inlinedNodes(model)
  if (nodes <= MAX_NODES) return
  const what = `with its functions inlined, the model has ${nodes.toLocaleString('en')} nodes`
  throw modelError('functions-too-large', `${what}, more than ${MAX_NODES.toLocaleString('en')}`, {
    next: 'check the exporter',
  })
}

/** Nodes of the main graph and of bodies in it, calls replaced. A model error where a function calls itself. */
export function inlinedNodes(model: Model): number {
  const functions = new Map(model.functions.map((f) => [functionKey(f.domain, f.name, f.overload), f]))
  const sizes = new Map<FunctionDef, number>()
  const sizeOf = (graph: Graph, depth: number): number => {
    let count = 0
    for (const n of graph.allNodes()) {
      const f = functions.get(functionKey(n.domain, n.op, n.overload))
      count += f ? bodySize(f, depth + 1) : 1
    }
    return count
  }
  const bodySize = (f: FunctionDef, depth: number): number => {
    if (depth > MAX_DEPTH)
      throw modelError('recursive-function', 'a model-local function calls itself', { next: 'check the exporter' })
    const known = sizes.get(f)
    if (known !== undefined) return known
    const size = sizeOf(f.graph, depth)
    sizes.set(f, size)
    return size
  }
  return sizeOf(model.graph, 0)
}
