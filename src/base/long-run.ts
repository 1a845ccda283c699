/** What every function that takes long has in common: whoever calls it follows it and stops it in the same way. */
import { MncError } from './errors.ts'

/** What everything that takes long accepts: a way to stop it, and one to be told how far it is. */
export interface LongRun {
  /** Aborting ends it with an `interrupt` error (code `interrupted`); what it was changing is then to be dropped. */
  readonly signal?: AbortSignal | undefined
  /** `done` of `total` parts of the work are behind it. */
  readonly onProgress?: ((done: number, total: number) => void) | undefined
}

/** The error of a run that its caller has stopped: how far it was, and what would continue it. */
export const interrupted = (message = 'interrupted', next?: string): MncError =>
  new MncError(message, { code: 'interrupted', blame: 'interrupt', next })

/** Ends a run whose caller wants it to stop. */
export function stopIfAborted(signal: AbortSignal | undefined, message?: string): void {
  if (signal?.aborted) throw interrupted(message)
}
