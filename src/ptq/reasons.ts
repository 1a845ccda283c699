/** Why a step changed nothing, and why nothing can be quantised. */
import { type MncError, modelError } from '../base/errors.ts'
import type { Declined } from '../layers/left-weights.ts'

const SHOWN = 3

/** Different reasons, the most frequent first. */
export function reasonsOf(declined: readonly Declined[]): string {
  const counts = new Map<string, number>()
  for (const { reason } of declined) counts.set(reason, (counts.get(reason) ?? 0) + 1)
  const sorted = [...counts].sort((a, b) => b[1] - a[1])
  const shown = sorted.slice(0, SHOWN).map(([reason, n]) => (n === 1 ? reason : `${reason} (${n} times)`))
  return [...shown, ...(sorted.length > SHOWN ? ['...'] : [])].join('; ')
}

export const nothingQuantised = (declined: readonly Declined[]): MncError =>
  modelError('nothing-to-quantise', `nothing of the model can be quantised: ${reasonsOf(declined) || 'no layer fits'}`)
