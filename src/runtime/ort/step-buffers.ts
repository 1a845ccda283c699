/**
 * The buffers that onnxruntime gives the values of a typed graph, executed in a certain order, as its planner decides: a value
 * that is another in a new shape has the memory of that, an elementwise operator writes over what nobody reads later, and a
 * value takes over the buffer of one of the same type and shape that is no longer read, the last such first.
 *
 * Graph inputs, outputs and constants are not counted: they lie outside.
 */
import type { Node, Value } from '../../graph/graph.ts'
import { sizeInBytes } from '../../graph/types.ts'
import { STEP_DOMAIN } from '../../lowerings/native/operators.ts'
import { isView } from '../../lowerings/recompute.ts'
import { findOp } from '../../ops/index.ts'
import { Arena, type Piece } from './arena.ts'

interface Buffer {
  readonly bytes: number
  readonly from: number
  /** The last place at which it is read or written. */
  to: number
  /** Type and shape of the value that it holds. */
  form: string
  /** Reads of what it holds that are to come. */
  reads: number
}

/** The inputs that the first output may be written over. */
function overwritable(n: Node): readonly (Value | null)[] {
  if (n.domain === STEP_DOMAIN) return n.inputs.slice(0, 1)
  const def = findOp(n)
  if (def?.broadcasts) return n.inputs
  return def?.ramp || def?.gatedBy ? n.inputs.slice(0, 1) : []
}

const formOf = ({ type }: Value): string => `${type?.elem} ${type?.dims?.join('x')}`

export function buffersOf(order: readonly Node[]): readonly Buffer[] {
  const reads = new Map<Value, number>()
  for (const n of order) for (const v of n.inputs) if (v?.producer) reads.set(v, (reads.get(v) ?? 0) + 1)
  const held = new Map<Value, Buffer>()
  const all: Buffer[] = []
  let free: Buffer[] = []
  const taken = (n: Node, v: Value, isFirst: boolean): Buffer | undefined => {
    if (isFirst && isView(n)) return held.get(n.input(0))
    const own = (x: Value): number => n.inputs.filter((y) => y === x).length
    const over = isFirst && !v.isOutput ? overwritable(n) : []
    for (const x of over) {
      const buffer = x && !x.isOutput && formOf(x) === formOf(v) ? held.get(x) : undefined
      if (buffer?.reads === own(x!)) return buffer
    }
    const dead = v.isOutput || !v.type?.dims?.length ? undefined : free.find((b) => b.form === formOf(v))
    if (dead) free = free.filter((b) => b !== dead)
    return dead
  }
  order.forEach((n, at) => {
    for (const [i, v] of n.outputs.entries()) {
      if (!v) continue
      let buffer = taken(n, v, i === 0)
      if (!buffer) {
        buffer = { bytes: v.isOutput ? 0 : (sizeInBytes(v.type) ?? 0), from: at, to: at, form: '', reads: 0 }
        all.push(buffer)
      }
      Object.assign(buffer, { to: at, form: formOf(v), reads: buffer.reads + (reads.get(v) ?? 0) })
      held.set(v, buffer)
    }
    for (const v of [...n.inputs, ...n.outputs]) {
      const buffer = v && held.get(v)
      if (!buffer) continue
      if (n.inputs.includes(v)) buffer.reads--
      buffer.to = at
      if (buffer.reads === 0 && !free.includes(buffer)) free.unshift(buffer)
    }
  })
  return all
}

/** Bytes of the engine's arena that a run in this order writes. */
export function arenaBytes(order: readonly Node[]): number {
  const begin = order.map((): Buffer[] => [])
  const end = order.map((): Buffer[] => [])
  for (const b of buffersOf(order)) {
    if (b.bytes === 0) continue
    begin[b.from]!.push(b)
    end[b.to]!.push(b)
  }
  const arena = new Arena()
  const pieces = new Map<Buffer, Piece>()
  for (const at of order.keys()) {
    for (const b of begin[at]!) pieces.set(b, arena.take(b.bytes))
    for (const b of end[at]!) arena.give(pieces.get(b)!)
  }
  return arena.written
}
