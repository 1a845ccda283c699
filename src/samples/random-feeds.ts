/**
 * Random values for a model's inputs, made from the graph's own input types, where there is no data or only shapes count.
 *
 *   floats    standard normal
 *   integers  within what their readers accept (OpDef.integers): below the rows of a Gather's table or the depth of a
 *             OneHot, or one of the constants that they are compared with; 0 or 1 where nothing more is known
 *   booleans  either
 *
 * Does not apply to strings, sequences and maps.
 */
import { modelError } from '../base/errors.ts'
import { Rng } from '../base/rng.ts'
import type { Node, Value } from '../graph/graph.ts'
import type { Model } from '../graph/model.ts'
import { requireHoldable, Tensor } from '../graph/tensor.ts'
import { type ElementType, elementCount, formatType } from '../graph/types.ts'
import { findOp } from '../ops/index.ts'

export type RandomFeeds = (
  dims: Readonly<Record<string, readonly number[]>>,
  keys: readonly number[],
) => Record<string, Tensor>

/** Feeds of any dims for the model's inputs. */
export function randomFeeds(model: Model): RandomFeeds {
  const inputs = model.graph.fed.map((v) => {
    const { elem } = v.type ?? {}
    if (elem === undefined || !(elem === 'bool' || /^(float|u?int)(8|16|32|64)$/.test(elem)))
      throw modelError(
        'no-random-input',
        `there are no random values for input '${v.name}' of type ${formatType(v.type)}`,
        {
          next: 'give real inputs with --data',
        },
      )
    return { name: v.name, elem, pick: picker(v, elem) }
  })
  return (dims, keys) => {
    const rng = new Rng(...keys)
    return Object.fromEntries(
      inputs.map(({ name, elem, pick }) => {
        const own = dims[name] ?? []
        requireHoldable({ elem, dims: own }, `input '${name}'`)
        const values = new Float64Array(elementCount(own))
        for (let i = 0; i < values.length; i++) values[i] = pick(rng)
        return [name, Tensor.from(elem, own, values)]
      }),
    )
  }
}

function picker(v: Value, elem: ElementType): (rng: Rng) => number {
  if (elem.startsWith('float')) return (rng) => rng.normal()
  const range = elem === 'bool' ? undefined : integersOf(v)
  if (range && 'of' in range) return (rng) => range.of[Math.floor(rng.uniform(0, range.of.length))]!
  const below = range?.below ?? 2
  return (rng) => Math.floor(rng.uniform(0, below))
}

export type Integers = { readonly below: number } | { readonly of: readonly number[] }

/** The tightest requirement of the value's readers, also through operators that carry the value on. */
export function integersOf(v: Value): Integers | undefined {
  const found: Integers[] = []
  const seen = new Set<Value>()
  const visit = (value: Value): void => {
    if (seen.has(value)) return
    seen.add(value)
    for (const n of value.uses) {
      n.inputs.forEach((x, i) => {
        const demand = x === value ? demandOf(n, i) : undefined
        if (demand) found.push(demand)
      })
      if (findOp(n)?.carries && n.inputs[0] === value) visit(n.output)
    }
  }
  visit(v)
  const choice = found.find((f) => 'of' in f)
  if (choice) return choice
  const bounds = found.flatMap((f) => ('below' in f ? [f.below] : []))
  return bounds.length > 0 ? { below: Math.min(...bounds) } : undefined
}

const demandOf = (n: Node, input: number): Integers | undefined => findOp(n)?.integers?.(n, input)
