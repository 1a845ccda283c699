/** Passes by name, for callers that need not know them individually: the command line, recipes, the library. */
import { usageError } from '../base/errors.ts'
import { nearest } from '../base/options.ts'
import type { Model } from '../graph/model.ts'
import { namesOf, type PassContext, type PassDef } from '../pass-manager/define-pass.ts'
import { applyPass, type PassResult } from '../pass-manager/manager.ts'
import { passes } from './index.ts'

/** A pass by name or alias; a usage error with the nearest name. */
export function requirePass(name: string): PassDef {
  const found = passes.find((p) => namesOf(p).includes(name))
  if (found) return found
  const near = nearest(
    name,
    passes.flatMap((p) => namesOf(p)),
  )
  throw usageError(`there is no pass '${name}'`, near ? `did you mean '${near}'?` : 'mnc pass --list shows them all')
}

/** Applies a pass by name or alias to `model`, in place; errors as those of `applyPass`. */
export async function runPass(
  model: Model,
  name: string,
  options: Readonly<Record<string, unknown>> = {},
  context: Partial<PassContext> = {},
): Promise<PassResult> {
  return applyPass(model, requirePass(name), options, context)
}
