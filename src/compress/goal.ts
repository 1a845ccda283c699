/** What the file must not exceed, as `--goal` writes it: bytes=100KB, macs=10M, latency=2ms, score=0.01. And `--time 30m`. */
import { amountOf, byteUnits, type Units } from '../base/amounts.ts'
import { usageError } from '../base/errors.ts'

export const goalKinds = ['bytes', 'macs', 'latency', 'score'] as const
export type GoalKind = (typeof goalKinds)[number]

export interface Goal {
  readonly kind: GoalKind
  /** Bytes, multiply-accumulates of a sample, milliseconds of a run, or the score itself. */
  readonly most: number
}

/** Of a number, by what stands behind it; the first is what a bare number means. */
const units: Readonly<Record<GoalKind | 'time', Units>> = {
  bytes: byteUnits,
  macs: { '': 1, k: 1e3, m: 1e6, g: 1e9 },
  latency: { ms: 1, us: 1e-3, s: 1e3 },
  score: { '': 1 },
  time: { s: 1, m: 60, min: 60, h: 3600 },
}

const EXAMPLES = 'bytes=100KB, macs=10M, latency=2ms, score=0.01'

/** A usage error for anything else. */
export function parseGoal(text: string): Goal {
  const [kind = '', amount = '', ...more] = text.split('=')
  const known = goalKinds.find((k) => k === kind.trim().toLowerCase())
  const most = known && more.length === 0 ? amountOf(amount, units[known]) : null
  if (!known || most === null)
    throw usageError(`--goal ${text}: this is no goal`, `write what the file must not exceed: ${EXAMPLES}`)
  return { kind: known, most }
}

/** Seconds. */
export function parseTime(text: string): number {
  const seconds = amountOf(text, units.time)
  if (seconds === null) throw usageError(`--time ${text}: this is no time`, 'write 90s, 30m or 2h')
  return seconds
}

/** With its unit. */
export const showTime = (text: string): string => (/[a-z]\s*$/i.test(text) ? text : `${text.trim()} s`)

/** `100 kB`, `10 M MACs`, `2 ms`. */
export function showAmount(kind: GoalKind, amount: number): string {
  const short = (x: number): string => String(Number(x.toPrecision(4)))
  if (kind === 'bytes')
    return amount >= 1e6 ? `${short(amount / 1e6)} MB` : amount >= 1e4 ? `${short(amount / 1e3)} kB` : `${amount} bytes`
  if (kind === 'macs') return amount >= 1e6 ? `${short(amount / 1e6)} M MACs` : `${amount} MACs`
  return kind === 'latency' ? `${short(amount)} ms` : `score ${short(amount)}`
}
