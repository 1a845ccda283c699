/**
 * Replaces every call of a model-local function by the function's body, attribute references by the caller's values (or
 * the function's defaults), in the main graph and in bodies of If, Loop and Scan; the functions are removed. Passes that look for
 * layers (prune, quantize, export) and training do this first: what was inside a function is then like the rest.
 *
 * Model and functions are upgraded to the newest opset among them before. Does not apply to functions that call
 * themselves, or that would become too many nodes (graph/function-size.ts): a model error.
 */
import { optionTable } from '../base/options.ts'
import { functionDefaults } from '../codec/function-defaults.ts'
import type { Attribute } from '../graph/attribute.ts'
import { cloneNode, type ValueMap } from '../graph/clone.ts'
import { functionKey, requireInlinable } from '../graph/function-size.ts'
import type { Graph, Node, Value } from '../graph/graph.ts'
import type { FunctionDef, Model } from '../graph/model.ts'
import { upgradeModelTo } from '../ops/raise-opset.ts'
import { definePass } from '../pass-manager/define-pass.ts'

/** True where the model had functions. */
export function inlineFunctions(model: Model): boolean {
  if (model.functions.length === 0) return false
  requireInlinable(model)
  const versions = [model.opset, ...model.functions.map((f) => f.opsets.get('') ?? 0)]
  const newest = Math.max(...versions)
  if (versions.some((v) => v !== 0 && v < newest)) upgradeModelTo(model, newest)
  const byKey = new Map(model.functions.map((f) => [functionKey(f.domain, f.name, f.overload), f]))
  while (inlineCalls(model.graph, byKey));
  for (const f of model.functions)
    for (const [domain, version] of f.opsets) if (!model.opsets.has(domain)) model.opsets.set(domain, version)
  for (const f of model.functions) if (!usesDomain(model.graph, f.domain)) model.opsets.delete(f.domain)
  model.functions.length = 0
  return true
}

function usesDomain(graph: Graph, domain: string): boolean {
  for (const n of graph.allNodes()) if (n.domain === domain) return true
  return domain === ''
}

/** One level: calls inside the bodies that this puts in are for the next. */
function inlineCalls(graph: Graph, functions: ReadonlyMap<string, FunctionDef>): boolean {
  const calls = [...graph.allNodes()].flatMap((n) => {
    const f = functions.get(functionKey(n.domain, n.op, n.overload))
    return f ? [{ n, f }] : []
  })
  for (const { n, f } of calls) inline(n, f)
  return calls.length > 0
}

function inline(call: Node, f: FunctionDef): void {
  const defaults = functionDefaults(f)
  const { graph } = call
  const map: ValueMap = new Map()
  f.graph.inputs.forEach((v, i) => {
    const given = call.inputs[i]
    if (given) map.set(v, given)
  })
  const prefix = call.name || call.id
  for (const n of f.graph.nodes()) {
    const copy = cloneNode(n, graph, map, (name) => graph.freshName(`${prefix}/${name}`))
    graph.move(copy, call)
    copy.inputs.forEach((v, i) => {
      if (v?.graph === f.graph) copy.setInput(i, null)
    })
    resolveReferences(copy, call, defaults)
    for (const [k, v] of call.metadata) copy.metadata.set(k, v)
  }
  const names = call.outputs.map((v) => v?.name)
  const results = f.graph.outputs.map((v) => map.get(v) ?? v)
  call.outputs.forEach((from, i) => {
    const to = results[i]
    if (!from || !to) return
    if (!to.type) to.setType(from.type)
    graph.replaceUses(from, to)
  })
  graph.remove(call)
  for (const [i, v] of results.entries()) keepName(graph, v, names[i])
}

/** The body's value that replaces a call's output takes its name. */
function keepName(graph: Graph, v: Value, name: string | undefined): void {
  if (name !== undefined && v.producer && !v.isOutput && !graph.find(name)) graph.rename(v, name)
}

/** Attributes that refer to the caller's, here and in bodies. */
function resolveReferences(n: Node, call: Node, defaults: ReadonlyMap<string, Attribute>): void {
  for (const [name, a] of [...n.attributes]) {
    if (a.kind !== 'reference') continue
    const given: Attribute | undefined = call.attributes.get(a.value) ?? defaults.get(a.value)
    n.setAttribute(name, given ?? null)
  }
  for (const body of n.subgraphs) for (const inner of body.nodes()) resolveReferences(inner, call, defaults)
}

export const inlineFunctionsPass = definePass({
  name: 'inline-functions',
  summary: 'Replace the calls of model-local functions with their bodies',
  options: optionTable({}),
  isInner: true,
  preserves: 'numerics',
  run: inlineFunctions,
})
