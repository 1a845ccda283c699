/**
 * What a loss reads from a model's outputs, and whether that is the scores of a distribution. Scores are taken before the
 * softmax that a model ends in; an output that a softmax inside the graph reads is scores as it is.
 */

import type { Node, Value } from '../../graph/graph.ts'
import { axisFromFront } from '../../ops/facts.ts'
import { findOp } from '../../ops/index.ts'
import { carriedAxis } from '../../ops/reshape.ts'

/** A softmax: the values that it reads and its axis among their dims (negative: from the end). */
export interface Distribution {
  readonly scores: Value
  readonly axis: number
}

export interface Head {
  /** What losses compare. */
  readonly value: Value
  readonly distribution: Distribution | null
  /** Whether an operator keeps it between two numbers (OpDef.bounded): not scores, whatever its shape. */
  readonly bounded: boolean
}

/** float16 and bfloat16 are float32 once the model is widened; a type that is unknown may be a float. */
export const isFloatOutput = (v: Value): boolean =>
  v.type === null || ['float16', 'bfloat16', 'float32', 'float64'].includes(v.type.elem)

/**
 * The output whose numbers are the scores of classes, as far as declared types tell: the first float one of [N, C], or of
 * more dims of which the others are 1; else the first float one. Undefined where there is no float.
 */
export function scoresOutput(outputs: readonly Value[]): Value | undefined {
  const floats = outputs.filter(isFloatOutput)
  return floats.find(mayBeScores) ?? floats[0]
}

/** The output that labels are for: the scores among those that no array of the data is for. */
export function labelsOutput(outputs: readonly Value[], targets: ReadonlyMap<string, unknown>): Value | undefined {
  const free = outputs.filter((v) => !targets.has(v.name))
  return scoresOutput(free.length > 0 ? free : outputs)
}

/** Scores of classes, as far as its declared type tells. */
export function mayBeScores({ type }: Value): boolean {
  const dims = type?.dims
  return !dims || (dims.length > 1 && dims[1] !== 1 && dims.slice(2).every((d) => d === 1))
}

/**
 * What losses read from an output. What only brings the distribution into another shape (Softmax on [N,C,1,1], then
 * Flatten) is done to the scores instead.
 */
export function headOf(output: Value): Head {
  const shaped: Node[] = []
  let value = output
  let distribution: Distribution | null = null
  for (let v = output; v.producer; v = v.producer.input(0)) {
    const n = v.producer
    const def = findOp(n)
    if (!def?.distribution && !def?.carries) break
    if (def.carries && def.carries !== 'value') shaped.unshift(n)
    else if (def.distribution || (shaped.length === 0 && !distribution)) value = n.input(0)
    if (!def.distribution) continue
    distribution = { scores: n.input(0), axis: n.int('axis', -1) }
    for (const s of shaped.splice(0)) value = again(s, value)
  }
  return { value, distribution: distribution ?? besideSoftmax(output), bounded: isBounded(value) }
}

/** The scores behind a final distribution; any other output as it is. */
export const logitsOf = (output: Value): Value => headOf(output).value

/** Elements stay in their order, in whatever shape or type. */
export function keepsOrder(n: Node): boolean {
  const carries = findOp(n)?.carries
  return carries !== undefined && carries !== 'order'
}

/** A softmax inside the graph that reads the output, or what the output is a copy of in some shape. */
function besideSoftmax(output: Value): Distribution | null {
  for (let v = output; ; v = v.producer.input(0)) {
    const axis = softmaxBehind(v)
    if (axis !== null) return { scores: v, axis }
    if (!v.producer || !findOp(v.producer)?.carries) return null
  }
}

/** The axis of a softmax that reads the value. */
function softmaxBehind(v: Value): number | null {
  for (const n of v.uses) {
    const def = findOp(n)
    if (n.inputs[0] !== v) continue
    if (def?.distribution) return n.int('axis', -1)
    const behind = def?.carries === 'value' ? softmaxBehind(n.output) : null
    if (behind !== null) return behind
  }
  return null
}

function isBounded(v: Value): boolean {
  for (let n = v.producer; n; n = n.inputs[0]?.producer ?? null) {
    const def = findOp(n)
    if (def?.bounded) return true
    if (!def?.carries) return false
  }
  return false
}

/** A copy of a node that reads `x` in the place of its first input. */
function again(n: Node, x: Value): Value {
  const inputs = [x, ...n.inputs.slice(1)]
  return x.graph.append().op(n.op, inputs, Object.fromEntries(n.attributes), { domain: n.domain, type: n.output.type })
}

/**
 * The axis of the classes among the dims of `value`, which is a head's value or what took its place since (the tiles of a
 * batch put together). All types are known. null if the classes are not one axis of it, or fewer than two.
 */
export function classAxis(value: Value, head: Head): number | null {
  if (!head.distribution) return null
  const { scores, axis } = head.distribution
  const path: Node[] = []
  if (head.value !== scores)
    for (let v = value; v !== scores; v = v.producer.input(0)) {
      if (!v.producer || v.producer.inputs.length === 0) return null
      path.unshift(v.producer)
    }
  let at: number | null = axisFromFront(axis, path[0]?.input(0).dims.length ?? value.dims.length)
  for (const n of path) at = at === null ? null : carriedAxis(n, at)
  return at !== null && value.dims[at]! >= 2 ? at : null
}

/**
 * Partners of the same name, then those that are left in their order. null: one that has none.
 */
export function pairByName<S extends { readonly name: string }, T extends { readonly name: string }>(
  own: readonly S[],
  others: readonly T[],
): Map<S, T | null> {
  const byName = new Map(others.map((t) => [t.name, t]))
  const taken = new Set(own.map((s) => byName.get(s.name)))
  const left = others.filter((t) => !taken.has(t))
  return new Map(own.map((s) => [s, byName.get(s.name) ?? left.shift() ?? null]))
}
