/** Numbers that are tied to one another (a union-find); each set is free, or blocked for a reason. */
export class TiedNumbers {
  readonly #parent: number[] = []
  readonly #blocked = new Map<number, string>()

  /** New numbers, each a set of its own. */
  take(count: number): number[] {
    return Array.from({ length: count }, () => this.#parent.push(this.#parent.length) - 1)
  }

  /** The representative of the numbers that a number is tied to. */
  root(s: number): number {
    let r = s
    while (this.#parent[r] !== r) r = this.#parent[r]!
    this.#parent[s] = r
    return r
  }

  /** The first reason stays. */
  block(numbers: readonly number[], reason: string): void {
    for (const s of numbers) if (!this.#blocked.has(this.root(s))) this.#blocked.set(this.root(s), reason)
  }

  /** null if it is free. */
  whyBlocked(s: number): string | null {
    return this.#blocked.get(this.root(s)) ?? null
  }

  tie(a: number, b: number): void {
    const [x, y] = [this.root(a), this.root(b)]
    if (x === y) return
    const why = this.#blocked.get(x)
    this.#parent[x] = y
    if (why) this.block([y], why)
  }
}
