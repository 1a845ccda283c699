/**
 * A training step that stops at its exchange points: the sessions of its segments (segments.ts), run one after the other,
 * as one session. What passes from one to another stays in memory that is allocated once: the engine writes it there and
 * reads it there again; memory that no later segment reads is another value's.
 */
import { bugError } from '../../base/errors.ts'
import type { Value } from '../../graph/graph.ts'
import type { Model } from '../../graph/model.ts'
import { Tensor } from '../../graph/tensor.ts'
import { isStatic, sizeInBytes } from '../../graph/types.ts'
import type { KeptOutputs, LoadOptions, Session } from '../executor.ts'
import { inferTypes } from '../isolated/infer-types.ts'
import { cutAtExchanges, type Segment } from './segments.ts'

interface Part {
  /** null: nothing is computed there. */
  readonly session: Session | null
  readonly exchanges: readonly { readonly from: string; readonly to: Tensor; readonly name: string }[]
  /** By name; null where the size is not known. */
  readonly passed: ReadonlyMap<string, Tensor | null>
}

export class SegmentedSession implements Session {
  readonly inputNames: readonly string[]
  readonly outputNames: readonly string[]
  readonly fallbacks = []
  readonly #parts: readonly Part[]
  readonly #exchange: NonNullable<LoadOptions['exchange']>

  private constructor(step: Model, parts: readonly Part[], exchange: NonNullable<LoadOptions['exchange']>) {
    this.inputNames = step.graph.fed.map((v) => v.name)
    this.outputNames = step.graph.outputs.map((v) => v.name)
    this.#parts = parts
    this.#exchange = exchange
  }

  /** `step` is typed. */
  static async load(
    step: Model,
    exchange: NonNullable<LoadOptions['exchange']>,
    load: (segment: Model) => Promise<Session>,
  ): Promise<SegmentedSession> {
    await inferTypes(step)
    const segments = cutAtExchanges(step)
    const memory = memoryOf(segments)
    const parts: Part[] = []
    for (const { model, exchanges, passed } of segments) {
      const session = model.graph.outputs.length === 0 ? null : await load(model)
      parts.push({
        session,
        exchanges: exchanges.map(({ from, to }) => ({ from: from.name, to: doubles(to), name: to.name })),
        passed: new Map([...passed.keys()].map((v) => [v.name, memory.get(v) ?? null])),
      })
    }
    return new SegmentedSession(step, parts, exchange)
  }

  async run(
    feeds: Readonly<Record<string, Tensor>>,
    fetch: readonly string[] = this.outputNames,
    into: Readonly<Record<string, Tensor>> = {},
  ): Promise<Record<string, Tensor>> {
    const values: Record<string, Tensor> = { ...feeds }
    for (const { session, passed, exchanges } of this.#parts) {
      if (session) {
        const targets = { ...into }
        // what the caller gets is not memory of this session
        for (const [name, t] of passed) if (t && !fetch.includes(name)) targets[name] = t
        const wanted = session.outputNames.filter((name) => passed.has(name) || fetch.includes(name))
        const given = Object.fromEntries(session.inputNames.map((name) => [name, values[name]!]))
        Object.assign(values, await session.run(given, wanted, targets))
      }
      if (exchanges.length > 0) await this.#average(exchanges, values)
    }
    return Object.fromEntries(fetch.map((name) => [name, values[name]!]))
  }

  /** All exchanges between two segments are one. */
  async #average(exchanges: Part['exchanges'], values: Record<string, Tensor>): Promise<void> {
    const flat = new Float64Array(exchanges.reduce((sum, { to }) => sum + to.size, 0))
    let at = 0
    for (const { from, to } of exchanges) {
      flat.set(values[from]!.view('float64'), at)
      at += to.size
    }
    await this.#exchange(flat)
    at = 0
    for (const { to, name } of exchanges) {
      to.view('float64').set(flat.subarray(at, at + to.size))
      values[name] = to
      at += to.size
    }
  }

  runKept(): Promise<KeptOutputs> {
    throw bugError('a step in segments keeps nothing on a device')
  }

  endProfiling(): string | undefined {
    return undefined
  }

  async dispose(): Promise<void> {
    for (const { session } of this.#parts) await session?.dispose()
  }
}

function doubles(v: Value): Tensor {
  if (v.type?.elem !== 'float64') throw bugError(`'${v.name}' is exchanged, but is no vector of float64`)
  return zeros(v)
}

const zeros = ({ type, dims }: Value): Tensor => new Tensor(type!.elem, dims, new Uint8Array(sizeInBytes(type)!))

/** Memory for all values that pass, as long as they are read. */
function memoryOf(segments: readonly Segment[]): Map<Value, Tensor> {
  const memory = new Map<Value, Tensor>()
  const free = new Map<number, Uint8Array[]>()
  const taken: { bytes: Uint8Array; last: number }[] = []
  for (const [level, { passed }] of segments.entries()) {
    for (const t of taken.filter(({ last }) => last < level)) {
      taken.splice(taken.indexOf(t), 1)
      free.set(t.bytes.length, [...(free.get(t.bytes.length) ?? []), t.bytes])
    }
    for (const [v, last] of passed) {
      const size = sizeInBytes(v.type)
      if (size === null || !v.type || !isStatic(v.type.dims)) continue
      const bytes = free.get(size)?.pop() ?? new Uint8Array(size)
      taken.push({ bytes, last })
      memory.set(v, new Tensor(v.type.elem, v.type.dims, bytes))
    }
  }
  return memory
}
