/**
 * Runs a graph on calibration batches and hands the results to the caller, who adds them up. Memory does not grow with
 * the number of batches: one batch's values at a time, and batches are cut along their first axis where the values `held`
 * of a whole one would take more than 256 MiB (possible where the model's batch dim is symbolic).
 */
import { usageError } from '../base/errors.ts'
import { cloneModel } from '../graph/clone.ts'
import type { Value } from '../graph/graph.ts'
import type { Model } from '../graph/model.ts'
import { Tensor } from '../graph/tensor.ts'
import { requireFiniteTensor } from '../layers/finite.ts'
import { inferTypes } from '../runtime/isolated/infer-types.ts'
import { ortExecutor } from '../runtime/ort/ort.ts'
import type { CalibrationData } from '../samples/calibration-data.ts'

const BYTES_AT_ONCE = 256 * 2 ** 20

export type Feeds = Readonly<Record<string, Tensor>>

export interface PieceOptions {
  /** Sets of values of the graph: those of the largest take the memory of a run. */
  readonly held: readonly (readonly Value[])[]
  readonly allowNonfinite?: boolean | undefined
}

/** The input of one run. */
export interface Piece {
  readonly feeds: Feeds
  /** Samples in the batch that this belongs to, and how many of them count: the others only fill it up. */
  readonly size: number
  readonly count: number
}

/** The result of one run. */
export interface Observed extends Piece {
  readonly out: Feeds
}

/**
 * The data in pieces that fit a run of `model`. Usage error when there are no batches; model error for inputs that are not
 * finite, unless `allowNonfinite`.
 */
export async function* piecesOf(
  model: Model,
  data: CalibrationData,
  { held, allowNonfinite = false }: PieceOptions,
): AsyncGenerator<Piece, void, undefined> {
  let batches = 0
  let samples: number | null = null
  let left = data.samples ?? Number.POSITIVE_INFINITY
  for await (const batch of data.batches()) {
    if (!allowNonfinite)
      for (const [name, t] of Object.entries(batch)) requireFiniteTensor(name, t, 'an input in the calibration data')
    if (batches++ === 0 && !data.isWhole) samples = await samplesAtOnce(model, held, batch)
    const size = Object.values(batch)[0]?.dims[0] ?? 0
    left -= size
    for (const feeds of cut(batch, samples)) yield { feeds, size, count: Math.min(size, size + left) }
  }
  if (batches === 0) throw usageError('the calibration data contain no samples', 'raise --limit or check --data')
}

/** Runs the model on all of the data. Errors as of `piecesOf`. */
export async function observe(
  model: Model,
  data: CalibrationData,
  options: PieceOptions,
  visit: (observed: Observed) => void,
): Promise<void> {
  const run = await runner(model)
  try {
    for await (const piece of piecesOf(model, data, options)) visit({ ...piece, out: await run.run(piece.feeds) })
  } finally {
    await run.dispose()
  }
}

/** A session, or nothing to run where all values are graph inputs. */
async function runner(model: Model): Promise<{ run(f: Feeds): Promise<Feeds>; dispose(): Promise<void> }> {
  if (model.graph.outputs.length > 0) return ortExecutor().load(model)
  return { run: async () => ({}), dispose: async () => {} }
}

/** How many samples' values fit; null where the batch dim is fixed or unknown, so that batches cannot be cut. */
async function samplesAtOnce(model: Model, held: readonly (readonly Value[])[], batch: Feeds): Promise<number | null> {
  const inputs = model.graph.fed
  if (!inputs.every((v) => typeof v.type?.dims?.[0] === 'string')) return null
  const dims: Record<string, number> = {}
  for (const v of inputs)
    v.type?.dims?.forEach((d, i) => {
      if (typeof d === 'string') dims[d] ??= i === 0 ? 1 : (batch[v.name]?.dims[i] ?? 1)
    })
  const typed = cloneModel(model)
  await inferTypes(typed, { dims })
  const bytesOf = (v: Value): number =>
    (typed.graph.find(v.name)?.type?.dims ?? []).reduce<number>((n, d) => n * (typeof d === 'number' ? d : 1), 4)
  const bytes = held.map((values) => values.reduce((n, v) => n + bytesOf(v), 0))
  return Math.max(1, Math.floor(BYTES_AT_ONCE / Math.max(1, ...bytes)))
}

/** A batch as pieces of at most `samples` along the first axis. */
function* cut(batch: Feeds, samples: number | null): Generator<Feeds> {
  const count = Object.values(batch)[0]?.dims[0] ?? 0
  const size = Math.max(1, samples ?? count)
  if (samples === null || count <= size) {
    yield batch
    return
  }
  for (let at = 0; at < count; at += size) {
    const n = Math.min(size, count - at)
    const piece = Object.entries(batch).map(([name, t]) => {
      const bytes = t.byteLength / count
      return [name, new Tensor(t.type, [n, ...t.dims.slice(1)], t.bytes.subarray(at * bytes, (at + n) * bytes))]
    })
    yield Object.fromEntries(piece)
  }
}
