/**
 * Inputs with a default (IR 4 and later; all weights in the files of old PyTorch exporters) are not constants: a caller may
 * give another value. Everything that computes with weights when the file is made, every pass that `bakes` and every
 * export, needs them to be constant. Unless asked otherwise it makes all of them constants first: a user who wants a
 * weight packed does not mean to feed another one. They are then no longer inputs, since a baked weight cannot be
 * overridden.
 */
import type { Value } from '../graph/graph.ts'
import type { Model } from '../graph/model.ts'

export interface OverridableContext {
  log(message: string): void
  decline?(where: string, reason: string): void
}

const NAMED = 3

/** Makes inputs with a default constants, or reports why they are left (`keep`). True if anything changed. */
export function settleOverridable(model: Model, keep: boolean, { log, decline }: OverridableContext): boolean {
  if (!keep) {
    const warning = fixOverridable(model)
    if (warning) log(`${warning}; --keep-overridable leaves them alone`)
    return warning !== null
  }
  const found = model.graph.inputs.filter((v) => v.default)
  for (const v of found) decline?.(v.name, 'it is an input with a default value, which callers may override')
  if (found.length > 0) log(`${described(found)} left alone: callers may override them (--keep-overridable)`)
  return false
}

/** Makes inputs with a default constants; returns the warning that is due, null if there are none. */
export function fixOverridable({ graph }: Model): string | null {
  const fixed = graph.fixDefaults()
  return fixed.length === 0 ? null : `WARNING: ${described(fixed)} made constant: callers can no longer override them`
}

function described(values: readonly Value[]): string {
  const names = values.slice(0, NAMED).map((v) => `'${v.name}'`)
  if (values.length > NAMED) names.push('...')
  return `${values.length} ${values.length === 1 ? 'input' : 'inputs'} with a default value (${names.join(', ')})`
}
