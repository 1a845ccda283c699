/**
 * Where a model comes from: `mnc.history` in metadata_props, a JSON list with one entry for each pass, training stage
 * and export that changed it, in order:
 *
 *   {pass, options, input, metrics}
 *
 * `input` is the start of the SHA-256 of the model before, as mnc writes it: of a file that mnc wrote, the file's own.
 * Options are in the order of their declaration and nothing depends on time, machine or path, so that equal runs give
 * equal bytes.
 */
import { marks } from '../graph/marks.ts'
import type { Model } from '../graph/model.ts'

export interface HistoryEntry {
  /** Name of a pass, or `train`, `bn-update`, `export`. */
  readonly pass: string
  readonly options: Readonly<Record<string, unknown>>
  /** Fingerprint (codec.ts) of the model before; missing in entries of version 0.1.0. */
  readonly input?: string
  readonly metrics?: Readonly<Record<string, number>>
}

/** Appends an entry. Metrics that are null are left out. */
export function recordHistory(
  model: Model,
  entry: Pick<HistoryEntry, 'pass' | 'options'> & {
    readonly input: string
    readonly metrics?: Readonly<Record<string, number | null>>
  },
): void {
  const { pass, options, input } = entry
  const metrics = Object.fromEntries(Object.entries(entry.metrics ?? {}).filter(([, v]) => v !== null))
  marks.history.set(model, [...readHistory(model), { pass, options, input, metrics }])
}

/** The entries; anything else is skipped, and a damaged list counts as empty. */
export function readHistory(model: Model): HistoryEntry[] {
  const known = marks.history.get(model)
  return Array.isArray(known) ? known.filter(isEntry) : []
}

function isEntry(value: unknown): value is HistoryEntry {
  if (typeof value !== 'object' || value === null || !('pass' in value) || !('options' in value)) return false
  return typeof value.pass === 'string' && typeof value.options === 'object' && value.options !== null
}
