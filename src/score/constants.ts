/**
 * The part of a graph that depends on constants only (masked and quantised weights, packed weights' decode), evaluated
 * by the runtime, so that no operator of a decode needs to be known here.
 *
 * Does not apply to random generators and to nodes with bodies (If, Loop, Scan): their outputs count as computed.
 */
import { formatParts } from '../analysis/value-width.ts'
import { modelError } from '../base/errors.ts'
import type { Graph, Value } from '../graph/graph.ts'
import type { Model } from '../graph/model.ts'
import type { Tensor } from '../graph/tensor.ts'
import { constantValues, evaluateConstants } from '../layers/constants.ts'
import { constantOf, isDequantize } from '../ops/facts.ts'

export class Constants {
  readonly #known: ReadonlySet<Value>
  readonly #tensors: ReadonlyMap<Value, Tensor>

  constructor(known: ReadonlySet<Value>, tensors: ReadonlyMap<Value, Tensor>) {
    this.#known = known
    this.#tensors = tensors
  }

  /** Whether the value is the same in every run. */
  has(v: Value): boolean {
    return this.#known.has(v)
  }

  /** Its tensor; computed ones as float32. Only for what a computed node reads, with what that is made of, and what a DequantizeLinear reads. */
  tensor(v: Value): Tensor {
    const t = constantOf(v) ?? this.#tensors.get(v)
    if (!t) throw modelError('constant-too-large', `the constant '${v.name}' is too large to be computed`)
    return t
  }
}

/** The values that are the same in every run, without evaluating them; inputs take their defaults. */
export const knownValues = (graph: Graph): ReadonlySet<Value> => constantValues(graph)

export async function evaluateKnown(model: Model): Promise<Constants> {
  const known = knownValues(model.graph)
  const wanted = new Set<Value>()
  for (const n of model.graph.nodes()) {
    const computed = n.outputs.some((v) => v && !known.has(v))
    if (!computed && !isDequantize(n)) continue
    for (const v of n.inputs)
      if (v && known.has(v) && !constantOf(v))
        for (const part of formatParts(v)) if (!constantOf(part)) wanted.add(part)
  }
  return new Constants(known, await evaluateConstants(model, [...wanted], { asFloat: true }))
}
