/**
 * The part of a graph that depends on constants only (masked and quantised weights, packed weights' decode), evaluated
 * by the runtime, so that no operator of a decode needs to be known here.
 *
 * Does not apply to random generators and to nodes with bodies (If, Loop, Scan): what they give counts as computed.
 */

import { bugError } from '../errors.ts'
import { cloneModel, type ValueMap } from '../graph/clone.ts'
import type { Node, Value } from '../graph/graph.ts'
import type { Model } from '../graph/model.ts'
import type { Tensor } from '../graph/tensor.ts'
import { constantOf } from '../ops/rules.ts'
import { ortExecutor } from '../runtime/ort.ts'

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

  /** Its tensor; computed ones as float32. Only for what a computed node reads, and what a DequantizeLinear reads. */
  tensor(v: Value): Tensor {
    const t = constantOf(v) ?? this.#tensors.get(v)
    if (!t) throw bugError(`constant '${v.name}' was not evaluated`)
    return t
  }
}

const isRandom = (n: Node): boolean => n.domain === '' && /^(Random|Multinomial|Bernoulli)/.test(n.op)

/** The values that are the same in every run, without evaluating them. */
export function constantValues(model: Model): Set<Value> {
  const known = new Set<Value>([...model.graph.values()].filter((v) => v.constant))
  for (const n of model.graph.nodes())
    if (n.inputs.every((v) => !v || known.has(v)) && n.subgraphs.length === 0 && !isRandom(n))
      for (const v of n.outputs) if (v) known.add(v)
  return known
}

export async function evaluateConstants(model: Model): Promise<Constants> {
  const known = constantValues(model)
  const wanted = new Set<Value>()
  for (const n of model.graph.nodes()) {
    const computed = n.outputs.some((v) => v && !known.has(v))
    if (!computed && n.op !== 'DequantizeLinear') continue
    for (const v of n.inputs) if (v && known.has(v) && !constantOf(v)) wanted.add(v)
  }
  return new Constants(known, wanted.size > 0 ? await evaluate(model, [...wanted]) : new Map())
}

async function evaluate(model: Model, wanted: readonly Value[]): Promise<Map<Value, Tensor>> {
  const map: ValueMap = new Map()
  const copy = cloneModel(model, map)
  const { graph } = copy
  for (const v of [...graph.outputs]) graph.removeOutput(v)
  const names = wanted.map((v, i) => {
    // 4-bit tensors do not cross the boundary to the runtime; float32 holds them all
    const out = graph.append().op('Cast', [map.get(v)!], { to: 1 }, { name: `score_constant_${i}` })
    graph.addOutput(out)
    return out.name
  })
  for (const n of graph.nodesReversed()) if (n.outputs.every((v) => !v?.isUsed)) graph.remove(n)
  for (const v of [...graph.inputs]) if (!v.isUsed || v.constant) graph.removeInput(v)
  for (const v of [...graph.initializers()]) if (!v.isUsed) graph.removeInitializer(v)
  const session = await ortExecutor().load(copy, { optimization: 'disabled', threads: 1 })
  try {
    const results = await session.run({})
    return new Map(wanted.map((v, i) => [v, results[names[i]!]!]))
  } finally {
    await session.dispose()
  }
}
