/** What the user's code throws is a fault in that code: the error names the definition and the configuration, and carries its cause. */
import { MncError } from '../base/errors.ts'

/** Says which definition a function belongs to, and where it was defined. */
export interface Owner {
  /** `metric 'worst-error'`. */
  readonly what: string
  readonly file: string | undefined
}

/** The function, whose errors name its owner, when it throws and when its promise is rejected. */
export function guarded<A extends readonly unknown[], R>(owner: Owner, run: (...args: A) => R): (...args: A) => R {
  return (...args) => {
    try {
      const result = run(...args)
      return result instanceof Promise ? (result.catch(faulty(owner)) as R) : result
    } catch (error) {
      return faulty(owner)(error)
    }
  }
}

const faulty =
  ({ what, file }: Owner) =>
  (cause: unknown): never => {
    if (cause instanceof MncError) throw cause
    throw new MncError(`${what}: ${cause instanceof Error ? cause.message : cause}`, {
      ...{ code: 'own-code', blame: 'user', file, cause },
      next: 'MNC_DEBUG=1 shows where',
    })
  }
