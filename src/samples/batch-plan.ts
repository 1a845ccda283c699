/**
 * How a model takes samples: which axes of its inputs and outputs are the batch, how many samples go into one run, and
 * what sizes its other dynamic dims have. Found by running it on random inputs in a separate process, not by trusting names:
 *
 *   1. Dynamic first dims (and all of the same symbol) are the batch where the model runs at two batches, each output is the
 *      same shape in both or longer along one axis in proportion, and each sample gets what it gets alone. Then any batch
 *      works. Where that fails, the symbols are tried one by one: of [T, N, F] it is N.
 *   2. Where it runs at 1 and 2 and samples depend on each other (a Reshape to [1, ...] before a softmax): 1.
 *   3. Where it does not run at 2, or 1: the batch asked for, those that the file mentions, 1; the first that runs.
 *   4. A file that fixes everything takes what it says.
 *
 * Dynamic dims that are not the batch take the first of OPEN_SIZES that runs. Does not apply to inputs that have no random
 * values (strings), nor to inputs of unknown rank that nobody has given a shape.
 */
import { MncError, modelError } from '../base/errors.ts'
import { cloneModel } from '../graph/clone.ts'
import type { Model } from '../graph/model.ts'
import type { Tensor } from '../graph/tensor.ts'
import type { Dim } from '../graph/types.ts'
import { isProbeFailure, loadIsolated } from '../runtime/isolated/engine.ts'
import { type InputDims, inputDims } from './input-shapes.ts'
import { type InputLayout, isNear, type OutputLayout, rowsOf, sliceSamples } from './layout.ts'
import { randomFeeds } from './random-feeds.ts'

/** Tried in this order: a side of a small image or a short text first, then longer ones (a window of sound), then less. */
const OPEN_SIZES = [32, 64, 128, 256, 512, 1024, 16, 8, 4, 2, 1]
/** Symbols that are tried as the batch. */
const MAX_CANDIDATES = 8
/** The largest batch mentioned in the file that is tried; nobody bakes larger ones into a graph. */
const MAX_MENTIONED = 16
const LARGEST_MENTIONED = 4096

export interface BatchPlan {
  /** Samples in one run: the number asked for where any works. */
  readonly batch: number
  /** Only this number works. */
  readonly isFixed: boolean
  readonly inputs: ReadonlyMap<string, InputLayout>
  /** Of the outputs that are numbers. */
  readonly outputs: ReadonlyMap<string, OutputLayout>
  /** Sizes of dynamic dims that were not given, by symbol, or input[axis] where they have none. */
  readonly sizes: Readonly<Record<string, number>>
}

export interface PlanOptions {
  /** Dims of inputs where more is known than the file says (those of images, or of another model); null is open. */
  readonly dims?: InputDims | undefined
  /** Also try other batches than the file fixes, for callers that will write a batch of their own into the inputs. */
  readonly reopen?: boolean | undefined
}

export type Outputs = Readonly<Record<string, Tensor>>
export type Run = (feeds: Readonly<Record<string, Tensor>>) => Promise<Outputs>

/** Dims of every input at n samples. */
export function dimsAt(plan: BatchPlan, n: number): Readonly<Record<string, readonly number[]>> {
  return Object.fromEntries(
    [...plan.inputs].map(([name, { dims, axes }]) => [name, dims.map((d, i) => (axes.includes(i) ? d * n : d))]),
  )
}

/** The plan. A model error that names the dynamic dims where no size makes the model run. */
export async function batchPlan(model: Model, asked: number, options: PlanOptions = {}): Promise<BatchPlan> {
  const search = new Search(model, options)
  const session = await loadIsolated(search.model, { optimization: 'disabled' })
  try {
    return await search.plan((feeds) => session.run(feeds), asked)
  } finally {
    await session.dispose()
  }
}

/** A dim of an input that has no size yet; `key` is equal where sizes must be. */
interface Open {
  readonly input: string
  readonly axis: number
  readonly key: string
}

/** Key of first dims without a symbol. */
const NAMELESS = '?'
const BATCH_NAME = /^(\?|n|b|bs|batch.*|.*batch|.*batch_?size)$/i

interface Trial {
  readonly feeds: Readonly<Record<string, Tensor>>
  readonly out: Outputs
}

/** One model's search. */
class Search {
  /** What is run: the model, its batch opened where that is asked for. */
  readonly model: Model
  readonly #dims: ReadonlyMap<string, readonly Dim[]>
  readonly #open: readonly Open[]
  readonly #make: ReturnType<typeof randomFeeds>
  /** The batch that the file fixes. */
  readonly #declared: number | null
  #run: Run = async () => ({})
  #error: MncError | null = null
  readonly #tried = new Set<string>()

  constructor(model: Model, { dims: given = {}, reopen = false }: PlanOptions) {
    const known = { ...inputDims(model), ...given }
    const inputs = model.graph.fed
    const rankless = inputs.find((v) => !known[v.name])
    if (rankless)
      throw modelError('open-input', `the shape of input '${rankless.name}' is unknown`, {
        next: `give it with --input-shape ${rankless.name}=...`,
      })
    const first = inputs.map((v) => known[v.name]![0]).find((d) => d !== undefined)
    this.#declared = typeof first === 'number' ? first : null
    const isReopened = (d: Dim, axis: number): boolean => reopen && axis === 0 && d === this.#declared
    this.#dims = new Map(inputs.map((v) => [v.name, known[v.name]!.map((d, i) => (isReopened(d, i) ? null : d))]))
    this.#open = [...this.#dims].flatMap(([input, dims]) =>
      dims.flatMap((d, axis) => (typeof d === 'number' ? [] : [{ input, axis, key: keyOf(d, input, axis) }])),
    )
    this.#make = randomFeeds(model)
    this.model = reopen && this.#declared !== null ? opened(model, this.#dims) : model
  }

  async plan(run: Run, asked: number): Promise<BatchPlan> {
    this.#run = run
    const keys = [...new Set(this.#open.map((o) => o.key))]
    if (keys.length === 0) return this.#asDeclared()
    const firsts = [...new Set(this.#open.filter((o) => o.axis === 0).map((o) => o.key))]
    const alone = keys.filter((k) => firsts.length !== 1 || k !== firsts[0]).map((k) => [k])
    const candidates = [...(firsts.length > 0 ? [firsts] : []), ...alone].slice(0, MAX_CANDIDATES)
    let runsAtBoth = false
    for (const batch of candidates) {
      const found = await this.#free(batch, asked)
      if (found === 'dependent') runsAtBoth ||= batch === candidates[0]
      else if (found) return found
    }
    const [main = []] = candidates
    if (runsAtBoth) return this.#single(main)
    for (const n of [asked, ...(this.#declared === null ? [] : [this.#declared]), ...mentioned(this.model), 1]) {
      const found = await this.#fixedAt(main, n)
      if (found) return found
    }
    return (await this.#fixedAt([], 1)) ?? this.#fail()
  }

  /** Any batch, where the symbols in `batch` are one; 'dependent' where it runs at two and is none; null where it does not run. */
  async #free(batch: readonly string[], asked: number): Promise<BatchPlan | 'dependent' | null> {
    for (const size of this.#sizes(batch)) {
      const two = await this.#try(batch, 2, size)
      if (!two) continue
      const singles = [await this.#part(two, batch, 0, 1), await this.#part(two, batch, 1, 1)]
      if (singles.every((t) => t !== null)) {
        const outputs = layoutsOf(two.out, singles as Outputs[], 2, 1)
        return outputs ? this.#planOf(batch, size, { batch: asked, isFixed: false, outputs }) : 'dependent'
      }
      const three = await this.#try(batch, 3, size)
      const part = three && (await this.#part(three, batch, 0, 2))
      const outputs = part && layoutsOf(three.out, [part], 3, 2)
      // a last batch of one would not run: the remainder is filled up
      return outputs ? this.#planOf(batch, size, { batch: Math.max(2, asked), isFixed: true, outputs }) : null
    }
    return null
  }

  /** One sample per run. A first dim whose name does not say batch either is a length: it gets a size. */
  async #single(batch: readonly string[]): Promise<BatchPlan> {
    const found = batch.every((k) => BATCH_NAME.test(k)) ? null : await this.#fixedAt([], 1)
    return found ?? (await this.#fixedAt(batch, 1)) ?? this.#fail()
  }

  async #fixedAt(batch: readonly string[], n: number): Promise<BatchPlan | null> {
    for (const size of this.#sizes(batch)) {
      const trial = await this.#try(batch, n, size)
      if (!trial) continue
      const outputs = new Map(Object.entries(trial.out).map(([name, t]) => [name, layoutAt(t.dims, n)]))
      if (n > 1 && ![...outputs.values()].some((o) => typeof o === 'object')) return null
      return this.#planOf(batch, size, { batch: n, isFixed: true, outputs })
    }
    return null
  }

  /** Everything is fixed: the batch is what the inputs begin with, where outputs have as many rows. */
  async #asDeclared(): Promise<BatchPlan> {
    const n = this.#declared ?? 1
    const trial = await this.#try([], 1, 1)
    if (!trial) return this.#fail()
    const layouts = Object.entries(trial.out).map(([name, t]) => [name, layoutAt(t.dims, n)] as const)
    const isBatch = n === 1 || layouts.some(([, l]) => typeof l === 'object')
    const inputs = new Map(
      [...this.#dims].map(([name, dims]) => {
        const axes = isBatch && dims[0] === n ? [0] : []
        return [name, { dims: (dims as readonly number[]).map((d, i) => (axes.includes(i) ? d / n : d)), axes }]
      }),
    )
    const outputs = new Map(layouts.map(([name, l]) => [name, isBatch ? l : ('whole' as const)]))
    return { batch: isBatch ? n : 1, isFixed: true, inputs, outputs, sizes: {} }
  }

  #planOf(batch: readonly string[], size: number, found: Pick<BatchPlan, 'batch' | 'isFixed' | 'outputs'>): BatchPlan {
    const inputs = new Map(
      [...this.#dims].map(([name, dims]) => {
        const axes = this.#open.filter((o) => o.input === name && batch.includes(o.key)).map((o) => o.axis)
        return [name, { axes, dims: dims.map((d, i) => (typeof d === 'number' ? d : axes.includes(i) ? 1 : size)) }]
      }),
    )
    const chosen = this.#open.filter((o) => !batch.includes(o.key))
    return { ...found, inputs, sizes: Object.fromEntries(chosen.map((o) => [shown(o), size])) }
  }

  #sizes(batch: readonly string[]): readonly number[] {
    return this.#open.every((o) => batch.includes(o.key)) ? [1] : OPEN_SIZES
  }

  async #try(batch: readonly string[], n: number, size: number): Promise<Trial | null> {
    const keys = new Map(this.#open.map((o) => [`${o.input} ${o.axis}`, o.key]))
    const of = (d: Dim, input: string, axis: number): number =>
      typeof d === 'number' ? d : batch.includes(keys.get(`${input} ${axis}`)!) ? n : size
    const dims = Object.fromEntries([...this.#dims].map(([name, list]) => [name, list.map((d, i) => of(d, name, i))]))
    for (const o of this.#open) this.#tried.add(`${shown(o)}=${batch.includes(o.key) ? n : size}`)
    const feeds = this.#make(dims, [0])
    const out = await this.#attempt(feeds)
    return out && { feeds, out }
  }

  #part({ feeds }: Trial, batch: readonly string[], from: number, n: number): Promise<Outputs | null> {
    const axesOf = (name: string): number[] =>
      this.#open.filter((o) => o.input === name && batch.includes(o.key)).map((o) => o.axis)
    const part = Object.entries(feeds).map(([name, t]) => [name, sliceSamples(t, axesOf(name), from, n, n)])
    return this.#attempt(Object.fromEntries(part))
  }

  async #attempt(feeds: Readonly<Record<string, Tensor>>): Promise<Outputs | null> {
    try {
      const out = Object.entries(await this.#run(feeds))
      return Object.fromEntries(out.filter(([, t]) => isNumeric(t.type)))
    } catch (error) {
      if (!(error instanceof MncError) || isProbeFailure(error)) throw error
      this.#error ??= error
      return null
    }
  }

  #fail(): never {
    const first = this.#open[0]
    if (!first) throw this.#error!
    const ports = [...this.#dims].map(([name, dims]) => `'${name}' [${dims.map((d) => d ?? '?').join(',')}]`)
    const tried = [...this.#tried]
    const some = tried.length > 12 ? [...tried.slice(0, 12), '...'] : tried
    const of = (o: Open): string =>
      this.#dims
        .get(o.input)!
        .map((d, i) => (i === o.axis ? 'N' : (d ?? '?')))
        .join(',')
    const last = this.#open.findLast((o) => o.axis > 0) ?? first
    throw modelError(
      'no-size-runs',
      `onnxruntime cannot run the model at any of the sizes tried for its dynamic dims, ${ports.join(', ')}: ${some.join(' ')}; ${this.#error?.message ?? ''}`,
      {
        next: `set the sizes with ${isNamed(last.key) ? `--dim ${last.key}=N` : `--input-shape ${last.input}=${of(last)}`}`,
      },
    )
  }
}

const isNumeric = (elem: string): boolean => elem === 'bool' || /^(float|u?int)(8|16|32|64)$/.test(elem)

const keyOf = (d: Dim, input: string, axis: number): string =>
  typeof d === 'string' ? d : axis === 0 ? NAMELESS : `${input}[${axis}]`

const isNamed = (key: string): boolean => key !== NAMELESS && !/\[\d+\]$/.test(key)
const shown = (o: Open): string => (isNamed(o.key) ? o.key : `${o.input}[${o.axis}]`)

/** The model with these dims as its inputs', and no shapes declared after them. */
function opened(model: Model, dims: ReadonlyMap<string, readonly Dim[]>): Model {
  const copy = cloneModel(model)
  for (const v of copy.graph.fed) if (v.type) v.setType({ elem: v.type.elem, dims: dims.get(v.name)! })
  for (const v of copy.graph.values())
    if (v.producer && v.type)
      v.setType(v.isOutput ? { elem: v.type.elem, dims: v.type.dims?.map(() => null) ?? null } : null)
  return copy
}

/** Batches that a file may mean: first sizes of outputs, and of the shapes among its constants. */
function mentioned(model: Model): number[] {
  const found = new Set<number>()
  for (const v of model.graph.outputs) if (typeof v.type?.dims?.[0] === 'number') found.add(v.type.dims[0])
  for (const v of model.graph.initializers()) {
    const { type, dims, size } = v.constant!
    if (type === 'int64' && dims.length === 1 && size > 1 && size <= 8) found.add(v.constant!.toNumbers()[0]!)
  }
  return [...found].filter((n) => n > 1 && n <= LARGEST_MENTIONED).slice(0, MAX_MENTIONED)
}

/** Layouts of all outputs; null where one is not proportional to the batch, or a sample differs from what it is alone. */
function layoutsOf(
  whole: Outputs,
  parts: readonly Outputs[],
  n: number,
  m: number,
): ReadonlyMap<string, OutputLayout> | null {
  const layouts = new Map<string, OutputLayout>()
  for (const [name, w] of Object.entries(whole)) {
    const first = parts[0]![name]!
    if (parts.some((p) => p[name]!.dims.length !== w.dims.length)) return null
    const differ = w.dims.flatMap((d, i) => (d === first.dims[i] ? [] : [i]))
    const [axis] = differ
    if (axis !== undefined && (differ.length > 1 || w.dims[axis]! * m !== first.dims[axis]! * n)) return null
    if (axis !== undefined && w.dims[axis]! % n > 0) return null
    const layout = axis === undefined ? 'shared' : { axis, rows: w.dims[axis]! / n }
    const rows = rowsOf(w, layout, n)
    for (const [k, p] of parts.entries())
      for (const [i, row] of rowsOf(p[name]!, layout, m).entries()) if (!isNear(rows[k * m + i]!, row)) return null
    layouts.set(name, layout)
  }
  return [...layouts.values()].some((l) => typeof l === 'object') ? layouts : null
}

/** At the one batch that works there is nothing to compare with: an axis of that size, or a first one proportional to it. */
function layoutAt(dims: readonly number[], n: number): OutputLayout {
  if (n === 1) return 'whole'
  const exact = dims.indexOf(n)
  if (exact === 0 || exact === 1) return { axis: exact, rows: 1 }
  const [first = 0] = dims
  return first > 0 && first % n === 0 ? { axis: 0, rows: first / n } : 'shared'
}
