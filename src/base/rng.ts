/**
 * Seeded random numbers, the same on every platform and independent of who draws them. `new Rng(seed, ...stream)` is a
 * stream of its own for each key (seed, epoch, sample, ...), so work can be split or started anywhere without drawing
 * what comes before. Generator: xoshiro128** 1.1 (Blackman and Vigna, 2018), its state filled from the keys by
 * MurmurHash3's finaliser. Not for cryptography.
 */
import { bugError } from './errors.ts'

/** JSON-able state: four 32-bit words, and the second normal of a pair where one is waiting. */
export interface RngState {
  readonly words: readonly [number, number, number, number]
  readonly spare: number | null
}

export class Rng {
  #a = 0
  #b = 0
  #c = 0
  #d = 0
  #spare: number | null = null

  /** Keys are integers (up to 2^53 in size); their order matters. */
  constructor(...keys: readonly number[]) {
    this.reseed(...keys)
  }

  static restore({ words, spare }: RngState): Rng {
    const rng = new Rng(0)
    ;[rng.#a, rng.#b, rng.#c, rng.#d] = words.map((w) => w | 0) as [number, number, number, number]
    rng.#spare = spare
    return rng
  }

  get state(): RngState {
    return { words: [this.#a >>> 0, this.#b >>> 0, this.#c >>> 0, this.#d >>> 0], spare: this.#spare }
  }

  /** Becomes `new Rng(...keys)` in place, so that hot loops produce no garbage. */
  reseed(...keys: readonly number[]): void {
    let h = 0x9e3779b9 | 0
    for (const key of keys) {
      if (!Number.isSafeInteger(key)) throw bugError(`a random stream's key must be an integer, not ${key}`)
      h = mix(h ^ mix((key | 0) + 0x3c6ef372))
      h = mix(h ^ mix(Math.floor(key / 0x1_0000_0000) + 0x1b873593)) + keys.length
    }
    this.#a = mix(h + 0x9e3779b9)
    this.#b = mix(h + 0x3c6ef372 + this.#a)
    this.#c = mix(h + 0xdaa66d2b + this.#b)
    this.#d = mix(h + 0x78dde6e4 + this.#c) | 1 // never the all-zero state
    this.#spare = null
  }

  /** An integer in [0, 2^32). */
  next32(): number {
    const b = this.#b
    const r = Math.imul(b, 5)
    const result = Math.imul((r << 7) | (r >>> 25), 9)
    this.#c ^= this.#a
    this.#d ^= b
    this.#b = b ^ this.#c
    this.#a ^= this.#d
    this.#c ^= b << 9
    this.#d = (this.#d << 11) | (this.#d >>> 21)
    return result >>> 0
  }

  /** A number in [low, high), 53 random bits. */
  uniform(low = 0, high = 1): number {
    const top = this.next32() >>> 5
    const bottom = this.next32() >>> 6
    return low + ((top * 67108864 + bottom) / 9007199254740992) * (high - low)
  }

  /** An integer in [0, n), without bias; n up to 2^32. */
  integer(n: number): number {
    if (!(Number.isInteger(n) && n > 0 && n <= 0x1_0000_0000)) throw bugError(`Rng.integer(${n})`)
    const limit = 0x1_0000_0000 - (0x1_0000_0000 % n)
    for (;;) {
      const x = this.next32()
      if (x < limit) return x % n
    }
  }

  /** True with probability p. */
  chance(p: number): boolean {
    return this.uniform() < p
  }

  /** Normally distributed (Marsaglia's polar method). */
  normal(mean = 0, std = 1): number {
    if (this.#spare !== null) {
      const z = this.#spare
      this.#spare = null
      return mean + std * z
    }
    for (;;) {
      const u = this.uniform(-1, 1)
      const v = this.uniform(-1, 1)
      const s = u * u + v * v
      if (s >= 1 || s === 0) continue
      const f = Math.sqrt((-2 * Math.log(s)) / s)
      this.#spare = v * f
      return mean + std * u * f
    }
  }

  /** Shuffles in place (Fisher and Yates) and returns its argument. */
  shuffle<T extends unknown[] | Int32Array | Uint32Array | Float32Array>(items: T): T {
    for (let i = items.length - 1; i > 0; i--) {
      const j = this.integer(i + 1)
      const kept = items[i]
      items[i] = items[j] as never
      items[j] = kept as never
    }
    return items
  }

  /** 0..n-1 in random order. */
  permutation(n: number): Uint32Array {
    return this.shuffle(Uint32Array.from({ length: n }, (_, i) => i))
  }
}

/** MurmurHash3's 32-bit finaliser: a bijection whose every output bit depends on every input bit. */
function mix(x: number): number {
  x ^= x >>> 16
  x = Math.imul(x, 0x85ebca6b)
  x ^= x >>> 13
  x = Math.imul(x, 0xc2b2ae35)
  return x ^ (x >>> 16)
}
