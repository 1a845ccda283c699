/**
 * Readings of a share of the samples, for its file: what the model returned, so that metrics see all samples in order when
 * shares are joined, whatever they add up. Metrics of one output share its rows.
 */
import { type PackedRows, packRows, unpackRows } from '../shards/numbers.ts'
import type { Gauge, Reading } from './measure.ts'
import type { MetricSample } from './metrics/define-metric.ts'

export interface PackedReading {
  readonly count: number
  readonly seconds: number
  /** By what is read: see `rowsKey`. */
  readonly rows: Readonly<Record<string, PackedSamples>>
}

interface PackedSamples {
  readonly got: PackedRows
  /** Of metrics of values. */
  readonly want: PackedRows | null
  readonly labels: readonly number[]
}

const rowsKey = ({ output, against, partner }: Gauge): string => JSON.stringify([output.name, against, partner])

/** Readings one after the other, as one. */
export function packReadings(parts: readonly Reading[], gauges: readonly Gauge[]): PackedReading {
  const rows: Record<string, PackedSamples> = {}
  for (const [k, gauge] of gauges.entries()) {
    const key = rowsKey(gauge)
    if (Object.hasOwn(rows, key)) continue
    const samples = parts.flatMap((p) => p.samples[k]!)
    rows[key] = {
      got: packRows(samples.map((s) => s.got)),
      want: gauge.against === 'labels' ? null : packRows(samples.map((s) => s.want)),
      labels: samples.map((s) => s.label),
    }
  }
  const sum = (of: (p: Reading) => number): number => parts.reduce((n, p) => n + of(p), 0)
  return { count: sum((p) => p.count), seconds: sum((p) => p.seconds), rows }
}

export function unpackReading({ count, seconds, rows }: PackedReading, gauges: readonly Gauge[]): Reading {
  const samples = new Map(Object.entries(rows).map(([key, packed]) => [key, samplesOf(packed)]))
  return { count, seconds, samples: gauges.map((g) => samples.get(rowsKey(g))!) }
}

function samplesOf({ got, want, labels }: PackedSamples): MetricSample[] {
  const wanted = want && unpackRows(want)
  return unpackRows(got).map((own, i) => ({ got: own, want: wanted?.[i] ?? [], label: labels[i]! }))
}
