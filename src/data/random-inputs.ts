/**
 * Random inputs made from the graph's own input types, for models without data: enough to calibrate on, to check with,
 * and to distil a model into a smaller one. They say nothing about accuracy; whoever uses them says so loudly.
 *
 *   floats    standard normal
 *   integers  within what their readers accept (OpDef.integers): below the rows of a Gather's table or the depth of a
 *             OneHot, or one of the constants that they are compared with; 0 or 1 where nothing says more
 *   booleans  either
 *
 * Open dims: the first one of an input and all of the same symbol are the batch; the others take the first size of
 * OPEN_SIZES with which onnxruntime runs the model. Does not apply to strings, sequences and maps.
 */
import { MncError, modelError } from '../errors.ts'
import type { Node, Value } from '../graph/graph.ts'
import type { Model } from '../graph/model.ts'
import { Tensor } from '../graph/tensor.ts'
import { type Dim, type ElementType, elementCount, formatType } from '../graph/types.ts'
import { findOp } from '../ops/index.ts'
import { Rng } from '../rng.ts'
import { ortExecutor } from '../runtime/ort.ts'

/** Tried in this order: a side of a small image or a short text first, then longer ones (a window of sound), then less. */
const OPEN_SIZES = [32, 64, 128, 256, 512, 1024, 16, 8, 4, 2, 1]

export interface RandomInputs {
  /** Dims of each input, batch included. */
  readonly dims: Readonly<Record<string, readonly number[]>>
  /** Samples in one set of inputs: the batch asked for, or the one that the model fixes. */
  readonly batch: number
  /** One set of inputs; the same keys give the same numbers. */
  feeds(...keys: readonly number[]): Record<string, Tensor>
}

interface Input {
  readonly name: string
  readonly elem: ElementType
  readonly dims: readonly number[]
  readonly pick: (rng: Rng) => number
}

const fed = (model: Model): Value[] => model.graph.inputs.filter((v) => !v.constant)

/** Model error for inputs that have no random values; the engine's own where no size of the open dims makes it run. */
export async function randomInputs(model: Model, batch: number): Promise<RandomInputs> {
  const inputs = fed(model)
  for (const v of inputs) requireRandom(v)
  const symbols = new Set(inputs.map((v) => v.type!.dims![0]).filter((d) => typeof d === 'string' && d !== ''))
  const open = inputs.some((v) => v.type!.dims!.some((d, i) => i > 0 && !isFixed(d) && !symbols.has(d)))
  const make = (size: number): RandomInputs => withDims(inputs, batch, size, symbols)
  return open ? firstThatRuns(model, make) : make(1)
}

function requireRandom(v: Value): void {
  const elem = v.type?.elem
  if (v.type?.dims && elem !== undefined && (elem === 'bool' || /^(float|u?int)(8|16|32|64)$/.test(elem))) return
  throw modelError(
    'no-random-input',
    `there are no random values for input '${v.name}' of type ${formatType(v.type)}`,
    {
      next: 'give real inputs with --data',
    },
  )
}

const isFixed = (d: Dim | undefined): d is number => typeof d === 'number' && d > 0

function withDims(inputs: readonly Value[], batch: number, size: number, symbols: ReadonlySet<Dim | undefined>) {
  const of = (d: Dim, i: number): number => (isFixed(d) ? d : i === 0 || symbols.has(d) ? batch : size)
  const all = inputs.map((v): Input => {
    const { elem, dims } = v.type!
    return { name: v.name, elem, dims: dims!.map(of), pick: picker(v, elem) }
  })
  return {
    dims: Object.fromEntries(all.map(({ name, dims }) => [name, dims])),
    batch: all.find(({ dims }) => dims.length > 0)?.dims[0] ?? 1,
    feeds: (...keys: readonly number[]) => {
      const rng = new Rng(...keys)
      return Object.fromEntries(all.map((input) => [input.name, draw(input, rng)]))
    },
  }
}

function draw({ elem, dims, pick }: Input, rng: Rng): Tensor {
  const values = new Float64Array(elementCount(dims))
  for (let i = 0; i < values.length; i++) values[i] = pick(rng)
  return Tensor.from(elem, dims, values)
}

function picker(v: Value, elem: ElementType): (rng: Rng) => number {
  if (elem.startsWith('float')) return (rng) => rng.normal()
  const range = elem === 'bool' ? undefined : integersOf(v)
  if (range && 'of' in range) return (rng) => range.of[Math.floor(rng.uniform(0, range.of.length))]!
  const below = range?.below ?? 2
  return (rng) => Math.floor(rng.uniform(0, below))
}

type Integers = { readonly below: number } | { readonly of: readonly number[] }

/** The tightest demand of the value's readers, seen through what carries the value on. */
function integersOf(v: Value): Integers | undefined {
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

async function firstThatRuns(model: Model, make: (size: number) => RandomInputs): Promise<RandomInputs> {
  const { folder } = model
  const session = await ortExecutor().load(model, { quiet: true, ...(folder !== undefined && { folder }) })
  let first: unknown
  try {
    for (const size of OPEN_SIZES) {
      const inputs = make(size)
      try {
        await session.run(inputs.feeds(0))
        return inputs
      } catch (error) {
        if (!(error instanceof MncError)) throw error
        first ??= error
      }
    }
  } finally {
    await session.dispose()
  }
  throw first
}
