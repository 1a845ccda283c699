/**
 * NaN and infinity in parameters: no mask, scale or bias can be computed from them, and the first one ends training.
 * Looked at are an operator's parameters and state (`OpDef.weights`, `parameters`, `state`: weights, biases,
 * normalisations), here, in bodies and in functions, as far as they come from constants; not constants next to feature
 * maps, among which -Infinity is the usual mask of an attention, nor the open end of a Clip.
 *
 * Passes that compute with parameters have `finiteOptions` (finite-options.ts) among their options, and the pass manager
 * looks before it runs them; so do exports and training.
 */

import { modelError } from '../base/errors.ts'
import type { Node, Value } from '../graph/graph.ts'
import type { Model } from '../graph/model.ts'
import type { Tensor } from '../graph/tensor.ts'
import { elementTypes } from '../graph/types.ts'
import { constantOf } from '../ops/facts.ts'
import { findOp } from '../ops/index.ts'

/** A model error that names the first parameter which is not finite. */
export function requireFinite(model: Model): void {
  const derived = new Set<Value>()
  const isKnown = (v: Value): boolean => constantOf(v) !== null || derived.has(v)
  const seen = new Set<Value>()
  for (const graph of [model.graph, ...model.functions.map((f) => f.graph)])
    for (const n of graph.allNodes()) {
      for (const i of parametersOf(n)) {
        const v = n.inputs[i]
        const faulty = v && isKnown(v) ? firstFaulty(v, seen) : null
        if (faulty) throw notFinite(faulty.name, constantOf(faulty)!, `a parameter of ${n.label}`)
      }
      // a masked or quantised weight on its way
      if (n.inputs.length > 0 && n.subgraphs.length === 0 && n.inputs.every((v) => !v || isKnown(v)))
        for (const v of n.outputs) if (v) derived.add(v)
    }
}

/** A model error where a tensor that `what` describes is not finite. */
export function requireFiniteTensor(name: string, t: Tensor, what: string): void {
  if (!isFiniteTensor(t)) throw notFinite(name, t, what)
}

function parametersOf(n: Node): readonly number[] {
  const def = findOp(n)
  if (!def?.parameters && !def?.weights) return []
  return [...(def.weights ?? []).map((w) => w.input), ...(def.parameters ?? []), ...(def.state ?? [])]
}

/** The constant that is not finite among those that a known value is computed from. */
function firstFaulty(v: Value, seen: Set<Value>): Value | null {
  if (seen.has(v)) return null
  seen.add(v)
  const t = constantOf(v)
  if (t) return isFiniteTensor(t) ? null : v
  for (const x of v.producer?.inputs ?? []) {
    const faulty = x && firstFaulty(x, seen)
    if (faulty) return faulty
  }
  return null
}

const isReal = (t: Tensor): boolean => /^b?float(16|32|64)$/.test(t.type) && elementTypes[t.type].bits > 0 && t.size > 0

function isFiniteTensor(t: Tensor): boolean {
  if (!isReal(t)) return true
  for (const part of t.parts()) if (!allFinite(part.toNumbers())) return false
  return true
}

/** x * 0 is 0 for what is finite, else NaN. Four sums, since consecutive additions to one wait for each other. */
function allFinite(x: ArrayLike<number>): boolean {
  let [a, b, c, d] = [0, 0, 0, 0]
  const end = x.length - (x.length % 4)
  for (let i = 0; i < end; i += 4) {
    a += x[i]! * 0
    b += x[i + 1]! * 0
    c += x[i + 2]! * 0
    d += x[i + 3]! * 0
  }
  for (let i = end; i < x.length; i++) a += x[i]! * 0
  return a + b + c + d === 0
}

function notFinite(name: string, t: Tensor, what: string): Error {
  let [count, nan] = [0, false]
  for (const part of t.parts()) {
    const values = part.toNumbers()
    for (let i = 0; i < values.length; i++)
      if (!Number.isFinite(values[i])) {
        count++
        nan ||= Number.isNaN(values[i])
      }
  }
  const found = `${count} of its ${t.size} values ${count === 1 ? 'is' : 'are'} not finite`
  return modelError('not-finite', `'${name}', ${what}, contains ${nan ? 'NaN' : 'infinity'}: ${found}`, {
    next: 'repair it at its origin, or continue with --allow-nonfinite',
  })
}
