/**
 * A file in the readers that it is for: those that are installed (installed-readers.ts) compared with the reference in
 * onnxruntime at ORT_DISABLE_ALL, by the first output. onnxruntime-node, which is always there, is what checkModels compares.
 */
import { resolve } from 'node:path'
import { isOlder, type ReaderName, readersOf, refusalOf, type Wanted } from '../analysis/readers.ts'
import { MncError } from '../base/errors.ts'
import type { Model } from '../graph/model.ts'
import { loadIsolated } from '../runtime/isolated/engine.ts'
import { groupsOf } from '../samples/run-samples.ts'
import { type CheckBatch, planPair } from './check.ts'
import { type InstalledReader, runIn } from './installed-readers.ts'

export interface ReaderResult {
  readonly reader: ReaderName
  /** null: it is not installed. */
  readonly version: string | null
  /** Why it does not run the file; null where it does, or was not tried. */
  readonly refusal: string | null
  /** Largest error over the reference's largest |value|; null where it did not run. */
  readonly maxRelError: number | null
}

/**
 * Of the largest output. Readers add floats up in other orders, where a quantiser behind then takes the next level: ResNet-20 at
 * 8 bits differs by 1.5 % at most, and by 1.3 % from itself at another optimisation level.
 */
const MAY_DIFFER = 0.05

/** `path`: the file of `model`. One result for each installed version of a wanted reader, one for a reader that is missing, or there in versions alone that are too old. */
export async function checkReaders(
  reference: Model,
  { model, path }: { readonly model: Model; readonly path: string },
  batch: CheckBatch,
  { wanted, installed }: { readonly wanted: readonly Wanted[]; readonly installed: readonly InstalledReader[] },
): Promise<ReaderResult[]> {
  const pair = await planPair(reference, model, batch)
  const plan = pair.reference.isFixed ? pair.reference : pair.model
  const output = reference.graph.outputs[0]!.name
  const groups = [...groupsOf({ ...plan, inputs: pair.reference.inputs }, batch.feeds, batch.count)]
  const want: Float32Array[] = []
  const session = await loadIsolated(reference, { optimization: 'disabled' })
  try {
    for (const { feeds } of groups) want.push((await session.run(feeds, [output]))[output]!.toFloat32())
  } finally {
    await session.dispose()
  }
  const feeds = groups.map((g) => pair.rename(g.feeds))
  const readings = readersOf(model)
  const results: ReaderResult[] = []
  for (const { reader, version: oldest } of wanted) {
    // an older version than the one that is wanted says nothing where it is known not to take the file
    const refused = (p: InstalledReader): string | null => refusalOf(readings, { reader, version: p.version })
    const own = installed.filter((p) => p.reader === reader && !(isOlder(p.version, oldest) && refused(p)))
    if (own.length === 0) results.push({ reader, version: null, refusal: null, maxRelError: null })
    for (const p of own) {
      const known = refused(p)
      if (known !== null) {
        results.push({ reader, version: p.version, refusal: known, maxRelError: null })
        continue
      }
      const ran = await runIn(p, resolve(path), feeds)
      const got =
        'outputs' in ran ? { refusal: null, maxRelError: errorOf(want, ran.outputs) } : { ...ran, maxRelError: null }
      results.push({ reader, version: p.version, ...got })
    }
  }
  return results
}

/** Largest difference over the largest output. */
export function errorOf(want: readonly Float32Array[], got: readonly Float32Array[]): number {
  let [error, largest] = [0, 0]
  for (const [r, a] of want.entries()) {
    const b = got[r]!
    if (a.length !== b.length) return Number.POSITIVE_INFINITY
    for (let i = 0; i < a.length; i++) {
      const e = Math.abs(a[i]! - b[i]!)
      error = Math.max(error, Number.isNaN(e) ? Number.POSITIVE_INFINITY : e)
      largest = Math.max(largest, Math.abs(a[i]!))
    }
  }
  return error === 0 ? 0 : error / largest
}

/** Gate error where a reader does not run the file, or gives something else. */
export function gateReaders(results: readonly ReaderResult[], file: string): void {
  for (const { reader, version, refusal, maxRelError } of results) {
    const name = `${reader} ${version}`
    const fault =
      refusal !== null
        ? `${name} does not run it: ${refusal}`
        : maxRelError !== null && maxRelError > MAY_DIFFER
          ? `${name} differs by ${(maxRelError * 100).toFixed(1)} % of the largest output`
          : null
    if (fault) throw new MncError(fault, { code: 'reader', blame: 'gate', file })
  }
}
