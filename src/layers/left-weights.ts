/**
 * Which weights a pass or export left as they were: their fraction, and the largest with the reason and the option that
 * includes them.
 *
 * Weights are what layers multiply with (layers.ts), and all other constant float tensors with two dims or more above 1:
 * those read by operators without a weight operand, and those inside bodies of If, Loop and Scan. Biases,
 * normalisations, masks and quantisers' scales are not weights.
 */

import type { Graph, Node, Value } from '../graph/graph.ts'
import { marks } from '../graph/marks.ts'
import type { Tensor } from '../graph/tensor.ts'
import { constantNodeTensor, isQuantizer } from '../ops/facts.ts'
import { findOp } from '../ops/index.ts'
import { weightLayers } from './layers.ts'

/** A node or value that a pass or export left alone. */
export interface Declined {
  readonly where: string
  readonly reason: string
  /** Elements of the weight that stays as it was; absent where weights are not concerned, or were treated already. */
  readonly weights?: number
  /** The options that would take it. */
  readonly remedy?: string
}

/** Weights that a pass left as they are, and why. */
export interface LeftWeights {
  /** Elements left as they were, and all. */
  readonly weights: number
  readonly of: number
  /** Up to three. */
  readonly largest: readonly Declined[]
}

const SHOWN = 3

export function leftWeights(declined: readonly Declined[], of: number): LeftWeights {
  const left = declined.filter((d) => (d.weights ?? 0) > 0)
  const largest = [...left].sort((a, b) => b.weights! - a.weights!).slice(0, SHOWN)
  return { weights: left.reduce((n, d) => n + d.weights!, 0), of, largest }
}

/** For people, one line each; null where nothing was left. */
function describeLeft({ weights, of, largest }: LeftWeights): string | null {
  if (weights === 0) return null
  const share = ((100 * weights) / of).toFixed(1)
  const lines = largest.map(
    (d) =>
      `  ${d.where} (${d.weights!.toLocaleString('en')}): ${d.reason}${d.remedy ? `; ${d.remedy} includes it` : ''}`,
  )
  const all = `left ${share} % of ${of.toLocaleString('en')} weights alone`
  return [`${all}${largest.length > 1 ? ', most of them in' : ':'}`, ...lines].join('\n')
}

/** What was left alone, for people: `explain` says all of it. */
export function describeDeclined(
  step: string,
  { declined = [], left }: { readonly declined?: readonly Declined[]; readonly left: LeftWeights | null },
  explain = false,
): string[] {
  const share = left && describeLeft(left)
  const head = share ? [`${step}: ${share}`] : []
  if (explain) return [...head, ...declined.map((d) => `${d.where}: ${d.reason}`)]
  const others = declined.filter((d) => d.weights === undefined).length
  const more = share ? `left ${others} others alone` : `left ${others} alone`
  return others > 0 ? [...head, `${step}: ${more}; --explain shows which and why`] : head
}

/** Elements of all layers' weights. */
export const layerWeights = (graph: Graph): number => weightLayers(graph).reduce((n, l) => n + l.tensor.size, 0)

/**
 * The weights that belong to no layer. `layers`: the constants that make up layers' weights, where those are more than
 * `weightLayers` sees.
 */
export function otherWeights(graph: Graph, layers: Iterable<Value> = []): Declined[] {
  const known = new Set<Value>(layers)
  for (const l of weightLayers(graph)) known.add(l.weight)
  return constants(graph).flatMap(({ value, tensor }) => {
    if (known.has(value) || marks.role.has(value) || !tensor.type.includes('float')) return []
    if (tensor.dims.filter((d) => d > 1).length < 2) return []
    const readers = [...value.uses].filter((n) => !isBeside(n, value))
    const [reader] = readers
    return reader ? [{ where: value.name, reason: whyOther(reader), weights: tensor.size }] : []
  })
}

function constants(graph: Graph): { value: Value; tensor: Tensor }[] {
  const found = [...graph.initializers()].map((value) => ({ value, tensor: value.constant! }))
  for (const n of graph.nodes()) {
    const tensor = constantNodeTensor(n)
    if (tensor) found.push({ value: n.output, tensor })
    for (const body of n.subgraphs) found.push(...constants(body))
  }
  return found
}

/** A scale of a quantiser, or a bias, statistic or limit. */
function isBeside(n: Node, v: Value): boolean {
  const at = n.inputs.indexOf(v)
  const { weights = [], parameters = [], state = [] } = findOp(n) ?? {}
  if (isQuantizer(n)) return at > 0
  return [...parameters, ...state].includes(at) && weights.every((s) => s.input !== at)
}

function whyOther(reader: Node): string {
  if (reader.graph.parent) return `it is read inside a body of If, Loop or Scan (${reader.label})`
  return reader.domain === ''
    ? `it is read by ${reader.label}, which is not a layer`
    : `it is read by ${reader.label} of the domain '${reader.domain}', which mnc does not know`
}
