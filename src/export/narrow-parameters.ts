/**
 * Floats of a packed file besides its compressed weights (biases, scales, weights of layers that stay floats) as integers of 16
 * or 24 bits with one step for many tensors, which the file turns back at load:
 *
 *   step = largest / (2^15 - 1)       Split(Cast(one int16 tensor of all) * step)
 *   step = largest / (2^23 - 1)       Split((Cast(upper 16 bits) * 256 + Cast(lower 8 bits)) * step)
 *
 * Half a step is at most 1.5e-5 of the largest, where float16 is off by up to 2.4e-4 of each. Tensors share a step where their
 * largest elements are within a factor of SPREAD.
 *
 * They lose digits. That is allowed where the outputs of random inputs move by no more than 1 % of their root mean square (with
 * 8-bit quantisers behind, a file differs from itself at another optimisation level by as much), or by no more than half as far again
 * as the last place of float32 moves them: deep networks of few activation bits turn a level here into many there, and
 * their parameters then say no more. 24 bits are tried behind 16.
 */
import { MncError } from '../base/errors.ts'
import { encodeModel } from '../codec/codec.ts'
import { cloneModel } from '../graph/clone.ts'
import type { Graph, Value } from '../graph/graph.ts'
import type { Model } from '../graph/model.ts'
import { Tensor } from '../graph/tensor.ts'
import { elementTypes } from '../graph/types.ts'
import { roundHalfEven } from '../quant/quantizer.ts'
import { loadIsolated } from '../runtime/isolated/engine.ts'
import { type RandomInputs, randomInputs } from '../samples/random-inputs.ts'
import type { Exporting } from './exporting.ts'
import { Terse } from './weights/decode.ts'

type Width = 16 | 24
const WIDTHS: readonly Width[] = [16, 24]
/** Bytes of a group's decode, and of a part more than a tensor of its own. */
const OVERHEAD = { 16: 70, 24: 140 } as const
const PART = 2
const SPREAD = { 16: 8, 24: 64 } as const
/** Elements from which on a group may have a step of its own. */
const LEAST_ELEMENTS = 128
const LEAST_SIZE = 8
const SAMPLES = 16
const LEAST_BOUND = 0.01
/** Of the distance that the last place of the parameters makes. */
const AGAIN = 1.5

export async function narrowParameters(context: Exporting): Promise<void> {
  const { model, options, log } = context
  if (!options.halfParameters) return
  const narrowed = WIDTHS.map((bits) => ({ bits, made: narrowCopy(model, bits) })).filter(
    ({ made }) => encodeModel(made).length < encodeModel(model).length,
  )
  if (narrowed.length === 0) return
  const run = await outputsOf(model)
  if (!run) return log('biases and scales stay in float32: the network does not run on random inputs')
  const outputs = await run(model)
  const most = Math.max(LEAST_BOUND, AGAIN * distance(outputs, await run(nextFloats(model))))
  let moved = 0
  for (const { bits, made } of narrowed) {
    moved = distance(outputs, await run(made))
    if (moved <= most) return store(context, bits)
  }
  const percent = (x: number): string => `${(100 * x).toPrecision(2)} %`
  log(
    `biases and scales stay in float32: in 24 bits they would move the outputs by ${percent(moved)}, not by ${percent(most)} at most`,
  )
}

function narrowCopy(model: Model, bits: Width): Model {
  const copy = cloneModel(model)
  narrow(copy.graph, bits)
  return copy
}

/** With every third parameter a place up, and every third a place down. */
function nextFloats(model: Model): Model {
  const copy = cloneModel(model)
  const { graph } = copy
  let i = 0
  for (const v of [...graph.initializers()].filter(fits)) {
    const { dims } = v.constant!
    const moved = v.constant!.toFloat32().map((x) => x * (1 + ((i++ % 3) - 1) * 2 ** -23))
    graph.replaceUses(v, graph.addInitializer('_n', Tensor.float32(dims, moved)))
    graph.removeInitializer(v)
  }
  return copy
}

function store(context: Exporting, bits: Width): void {
  const stored = narrow(context.model.graph, bits)
  context.choices = context.choices.map((c) => {
    const { weight } = c
    if (!stored.has(weight.value)) return c
    const payload = (bits / 8) * weight.size
    context.weightBytes -= 4 * weight.size - payload
    return { ...c, kind: `fixed${bits}` as const, payload }
  })
}

/** Rewrites every group that takes fewer bytes so. Returns the values that it stores narrower. */
function narrow(graph: Graph, bits: Width): ReadonlySet<Value> {
  const t = new Terse(graph.prepend())
  const narrowed = new Set<Value>()
  for (const group of groupsOf([...graph.initializers()].filter(fits), SPREAD[bits])) {
    const { elements, values } = group
    if ((elements * (32 - bits)) / 8 <= OVERHEAD[bits] + PART * values.length) continue
    const sizes = values.map((v) => v.constant!.dims[0]!)
    const whole = widened(t, group, bits)
    const parts = values.length === 1 ? [whole] : t.ops('Split', [whole, t.ints(sizes)], sizes.length, { axis: 0 })
    for (const [i, v] of values.entries()) {
      graph.replaceUses(v, parts[i]!)
      graph.removeInitializer(v)
      narrowed.add(v)
    }
  }
  return narrowed
}

interface Group {
  readonly values: Value[]
  elements: number
  readonly largest: number
}

/** Tensors that differ in their first dim alone, and by a factor of `spread` in their largest element where there are enough. */
function groupsOf(values: readonly Value[], spread: number): Group[] {
  const alike = new Map<string, Value[]>()
  for (const v of values) {
    const key = v.constant!.dims.slice(1).join()
    alike.set(key, [...(alike.get(key) ?? []), v])
  }
  return [...alike.values()].flatMap((members) => {
    const groups: Group[] = []
    for (const v of members.toSorted((a, b) => largestOf(b) - largestOf(a))) {
      const { size } = v.constant!
      const [open, largest] = [groups.at(-1), largestOf(v)]
      if (open && (spread * largest >= open.largest || open.elements < LEAST_ELEMENTS)) {
        open.values.push(v)
        open.elements += size
      } else groups.push({ values: [v], elements: size, largest })
    }
    return groups
  })
}

const largestOf = (v: Value): number => v.constant!.toFloat32().reduce((most, x) => Math.max(most, Math.abs(x)), 0)

/** All tensors of a group one after the other, out of integers. */
function widened(t: Terse, { values, largest }: Group, bits: Width): Value {
  const most = 2 ** (bits - 1) - 1
  const step = Math.fround(largest / most) || 1
  const [first] = values
  const dims = [values.reduce((n, v) => n + v.constant!.dims[0]!, 0), ...first!.constant!.dims.slice(1)]
  const integers = values
    .flatMap((v) => [...v.constant!.toFloat32()])
    .map((x) => Math.max(-most, Math.min(most, roundHalfEven(x / step))))
  const floats = (type: 'int16' | 'uint8', of: (q: number) => number): Value =>
    t.op('Cast', [t.constant(Tensor.from(type, dims, integers.map(of)))], { to: elementTypes.float32.code })
  const whole = (): Value => {
    if (bits === 16) return floats('int16', (q) => q)
    const upper = t.op('Mul', [floats('int16', (q) => Math.floor(q / 256)), t.scalar(256)])
    return t.op('Add', [upper, floats('uint8', (q) => q & 255)])
  }
  return t.op('Mul', [whole(), t.scalar(step)])
}

/** Not what bodies read, nor few elements, which may be sizes that readers want as constants. */
function fits(v: Value): boolean {
  const { constant, graph } = v
  if (constant?.type !== 'float32' || v.isOutput || constant.size < LEAST_SIZE || constant.dims.length === 0)
    return false
  return [...v.uses].every((n) => n.graph === graph) && Number.isFinite(largestOf(v))
}

/** Float outputs of random inputs. */
type Outputs = (model: Model) => Promise<readonly Float32Array[]>

/** null where the model is not run on made inputs. */
async function outputsOf(source: Model): Promise<Outputs | null> {
  const inputs = await madeInputs(source)
  if (!inputs) return null
  const { feeds, batch } = inputs
  const names = source.graph.outputs.filter((v) => v.type?.elem.startsWith('float')).map((v) => v.name)
  return async (model) => {
    const session = await loadIsolated(model, { optimization: 'all' })
    try {
      const found: Float32Array[] = []
      for (let i = 0; i * batch < SAMPLES; i++) {
        const outputs = await session.run(feeds(0, i), names)
        found.push(...names.map((name) => outputs[name]!.toFloat32()))
      }
      return found
    } finally {
      await session.dispose()
    }
  }
}

async function madeInputs(model: Model): Promise<RandomInputs | null> {
  try {
    return await randomInputs(model, SAMPLES)
  } catch (error) {
    if (!(error instanceof MncError) || error.blame === 'interrupt') throw error
    return null
  }
}

/** Root mean square of the difference over that of the outputs. */
function distance(outputs: readonly Float32Array[], others: readonly Float32Array[]): number {
  let [difference, all] = [0, 0]
  for (const [i, values] of outputs.entries())
    for (const [k, x] of values.entries()) {
      difference += (x - others[i]![k]!) ** 2
      all += x * x
    }
  return difference === 0 ? 0 : Math.sqrt(difference / all)
}
