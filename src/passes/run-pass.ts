/** Passes by name, for callers that need not know them individually: the command line, recipes, the library. */
import { usageError } from '../base/errors.ts'
import { nearest, type OptionsInput } from '../base/options.ts'
import type { Model } from '../graph/model.ts'
import { namesOf, type PassContext, type PassDef } from '../pass-manager/define-pass.ts'
import { applyPass, type PassResult } from '../pass-manager/manager.ts'
import { passes } from './index.ts'
import type { PassOptions } from './pass-options.generated.ts'

/** A pass by name or alias; a usage error with the nearest name. */
export function findPass(name: string): PassDef {
  const found = passes.find((p) => namesOf(p).includes(name))
  if (found) return found
  const near = nearest(
    name,
    passes.flatMap((p) => namesOf(p)),
  )
  throw usageError(`there is no pass '${name}'`, near ? `did you mean '${near}'?` : 'mnc pass --list shows them all')
}

/** A pass that mnc has, by its name or its short name. */
export type PassName = keyof PassOptions

/** What a caller may give a pass; of one that is known at run time only, anything that its table takes. */
type InputOf<P> = P extends PassName
  ? PassOptions[P]
  : P extends PassDef<infer T>
    ? string extends keyof T
      ? Readonly<Record<string, unknown>>
      : OptionsInput<T>
    : never

/**
 * Applies a pass to `model`, in place: one of mnc's by its name or short name, or a declaration, which `findPass` gives for a
 * name that is known at run time only. Errors as those of `applyPass`.
 */
export async function runPass<P extends PassName | PassDef>(
  model: Model,
  pass: P,
  options?: InputOf<P>,
  context: Partial<PassContext> = {},
): Promise<PassResult> {
  return applyPass(model, typeof pass === 'string' ? findPass(pass) : pass, { ...options }, context)
}
