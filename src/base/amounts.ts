/** Numbers with units, as options write them: 100KB, 30m, 2ms. */
import { usageError } from './errors.ts'

/** What a unit stands for, by its name in small letters; the first is what a bare number means. */
export type Units = Readonly<Record<string, number>>

export const byteUnits: Units = {
  b: 1,
  k: 1e3,
  kb: 1e3,
  m: 1e6,
  mb: 1e6,
  g: 1e9,
  gb: 1e9,
  kib: 2 ** 10,
  mib: 2 ** 20,
  gib: 2 ** 30,
}

/** null where it is no such number, or not above 0. */
export function amountOf(text: string, units: Units): number | null {
  const found = /^\s*(\d+(?:\.\d+)?(?:e[+-]?\d+)?)\s*([a-z]*)\s*$/i.exec(text)
  if (!found) return null
  const unit = found[2]!.toLowerCase()
  const factor = unit === '' ? Object.values(units)[0] : units[unit]
  const amount = Number(found[1]) * (factor ?? 0)
  return factor !== undefined && amount > 0 && Number.isFinite(amount) ? amount : null
}

/** Bytes; a usage error for anything else. `flag`: as the command line writes the option. */
export function parseBytes(text: string, flag: string): number {
  const bytes = amountOf(text, byteUnits)
  if (bytes === null) throw usageError(`${flag} ${text}: this is no amount of memory`, 'write 2GB, 512MiB or the like')
  return bytes
}

/** `1.87 GB`, `512 MB`. */
export const showBytes = (bytes: number): string =>
  bytes >= 1e9 ? `${(bytes / 1e9).toFixed(2)} GB` : `${Math.ceil(bytes / 1e6)} MB`
