/** Reads the words of the text form: white space and `//` comments between them do not matter. */
import { type MncError, modelError } from '../base/errors.ts'

const blank = /(?:\s|\/\/[^\n]*)*/y

export class Scanner {
  readonly #text: string
  #at = 0

  constructor(text: string) {
    this.#text = text
  }

  fail(message: string, cause?: unknown): MncError {
    const line = this.#text.slice(0, this.#at).split('\n').length
    return modelError('text-syntax', `line ${line}: ${message}`, { cause })
  }

  #skip(): void {
    blank.lastIndex = this.#at
    blank.exec(this.#text)
    this.#at = blank.lastIndex
  }

  get done(): boolean {
    this.#skip()
    return this.#at === this.#text.length
  }

  /** Consumes what the sticky `pattern` matches here; undefined if it does not match. */
  match(pattern: RegExp, skip = true): string | undefined {
    if (skip) this.#skip()
    pattern.lastIndex = this.#at
    const found = pattern.exec(this.#text)?.[0]
    if (found !== undefined) this.#at += found.length
    return found
  }

  need(pattern: RegExp, what: string, skip = true): string {
    const found = this.match(pattern, skip)
    if (found === undefined) throw this.fail(`${what} expected, found ${this.#ahead()}`)
    return found
  }

  #ahead(): string {
    const rest = this.#text.slice(this.#at, this.#at + 20)
    return rest === '' ? 'the end of the file' : JSON.stringify(rest.split('\n')[0])
  }

  /** Consumes a literal; false if something else is here. */
  take(literal: string): boolean {
    this.#skip()
    if (!this.#text.startsWith(literal, this.#at)) return false
    this.#at += literal.length
    return true
  }

  expect(literal: string): void {
    if (!this.take(literal)) throw this.fail(`'${literal}' expected, found ${this.#ahead()}`)
  }

  /** Whether a literal is here; consumes nothing. */
  sees(literal: string): boolean {
    this.#skip()
    return this.#text.startsWith(literal, this.#at)
  }

  /** Consumes a whole word; false if another one is here. */
  keyword(name: string): boolean {
    this.#skip()
    if (!this.#text.startsWith(name, this.#at) || /[\w.]/.test(this.#text[this.#at + name.length] ?? '')) return false
    this.#at += name.length
    return true
  }

  string(): string | undefined {
    const quoted = this.match(/"(?:[^"\\\n]|\\.)*"/y)
    if (quoted === undefined) return undefined
    try {
      return JSON.parse(quoted) as string
    } catch (cause) {
      throw this.fail(`${quoted.slice(0, 40)} is not a JSON string`, cause)
    }
  }

  needString(what: string): string {
    const s = this.string()
    if (s === undefined) throw this.fail(`${what} in quotes expected, found ${this.#ahead()}`)
    return s
  }

  /** A bare or quoted word. */
  word(what: string): string {
    return this.string() ?? this.need(/[\w.-][\w./-]*/y, what)
  }

  integer(what: string): number {
    return Number(this.need(/-?\d{1,15}(?![\w.])/y, what))
  }

  bytes(what: string): Uint8Array {
    const text = this.needString(what)
    if (!/^[A-Za-z0-9+/]*={0,2}$/.test(text) || text.length % 4 !== 0) throw this.fail(`${what} is not base64`)
    return new Uint8Array(Buffer.from(text, 'base64'))
  }

  /** `item, item, ... close`; the opening bracket has been consumed. */
  list<T>(close: string, item: () => T): T[] {
    const items: T[] = []
    if (this.take(close)) return items
    do items.push(item())
    while (this.take(','))
    this.expect(close)
    return items
  }
}
