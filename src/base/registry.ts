/**
 * Declarations of one kind: those that are built in, and those that a user's configuration adds. Whoever reads `all` or
 * `names` sees both; the arrays stay the same, so that tables that hold them need not be made again.
 */
import { usageError } from './errors.ts'

export class Registry<T> {
  readonly #kind: string
  readonly #builtIn: readonly T[]
  readonly #all: T[]
  readonly #names: string[]
  readonly #namesOf: (def: T) => readonly string[]

  /** `kind`: as messages call one, `pass`. `namesOf`: every name that one answers to. */
  constructor(kind: string, builtIn: readonly T[], namesOf: (def: T) => readonly string[]) {
    this.#kind = kind
    this.#builtIn = builtIn
    this.#namesOf = namesOf
    this.#all = [...builtIn]
    this.#names = builtIn.flatMap(namesOf)
  }

  get all(): readonly T[] {
    return this.#all
  }

  get names(): readonly string[] {
    return this.#names
  }

  /** Adds `own` in place of what an earlier call added; a usage error for a name that is taken, or that none could type. */
  use(own: readonly T[]): void {
    const taken = new Set(this.#builtIn.flatMap(this.#namesOf))
    for (const name of own.flatMap(this.#namesOf)) {
      if (!/^[a-z][a-z0-9-]*$/.test(name))
        throw usageError(`a ${this.#kind} cannot be named '${name}'`, 'use lower-case letters, digits and hyphens')
      if (taken.has(name))
        throw usageError(`there is a ${this.#kind} named '${name}' already`, 'give yours another name')
      taken.add(name)
    }
    this.#all.splice(this.#builtIn.length, this.#all.length, ...own)
    this.#names.splice(0, this.#names.length, ...this.#all.flatMap(this.#namesOf))
  }
}
