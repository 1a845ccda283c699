/**
 * Which values a file lists as inputs of a graph. Before IR 4 every initializer had to be listed too and was a constant
 * nevertheless; the IR does not count it as an input, and writing such a file lists it again, also where it is new.
 */
import type { Graph, Value } from '../graph/graph.ts'
import { graphExtra } from './codec-extra.ts'

/** The IR version from which an initializer that is listed as an input is a default that callers may override. */
export const DEFAULTS_SINCE = 4

/** In the order in which the file that was read listed them; what is new comes last. */
export function declaredInputs(graph: Graph, irVersion: number): readonly Value[] {
  if (irVersion >= DEFAULTS_SINCE) return graph.inputs
  const order = graphExtra(graph)?.inputOrder ?? []
  const place = new Map(order.map((name, at) => [name, at]))
  const at = (v: Value): number => place.get(v.name) ?? order.length
  return [...graph.inputs, ...graph.initializers()].sort((a, b) => at(a) - at(b))
}
