/** Stands in for node:crypto in a browser, whose own hashes are asynchronous: SHA-256 as FIPS 180-4 has it. */

/** The first 32 bits of the fractional parts of roots of primes: square roots to begin with, cube roots in the rounds. */
function fractions(count: number, root: (n: number) => number): Uint32Array {
  const primes: number[] = []
  for (let n = 2; primes.length < count; n++) if (primes.every((p) => n % p !== 0)) primes.push(n)
  return Uint32Array.from(primes, (p) => (root(p) % 1) * 2 ** 32)
}

const START = fractions(8, Math.sqrt)
const ROUNDS = fractions(64, Math.cbrt)

const turned = (x: number, by: number): number => (x >>> by) | (x << (32 - by))

class Sha256 {
  readonly #state = START.slice()
  readonly #block = new Uint8Array(64)
  readonly #words = new Uint32Array(64)
  #filled = 0
  #length = 0

  update(data: Uint8Array | string): this {
    const bytes = typeof data === 'string' ? new TextEncoder().encode(data) : data
    this.#length += bytes.length
    for (let at = 0; at < bytes.length; ) {
      const piece = bytes.subarray(at, at + 64 - this.#filled)
      this.#block.set(piece, this.#filled)
      this.#filled += piece.length
      at += piece.length
      if (this.#filled === 64) this.#compress()
    }
    return this
  }

  digest(_encoding: 'hex'): string {
    const bits = this.#length * 8
    this.update(Uint8Array.of(0x80))
    if (this.#filled > 56) this.update(new Uint8Array(64 - this.#filled))
    this.update(new Uint8Array(56 - this.#filled))
    const end = new DataView(new ArrayBuffer(8))
    end.setUint32(0, Math.floor(bits / 2 ** 32))
    end.setUint32(4, bits >>> 0)
    this.update(new Uint8Array(end.buffer))
    return [...this.#state].map((x) => x.toString(16).padStart(8, '0')).join('')
  }

  #compress(): void {
    const w = this.#words
    const block = new DataView(this.#block.buffer)
    for (let i = 0; i < 16; i++) w[i] = block.getUint32(4 * i)
    for (let i = 16; i < 64; i++) {
      const [a, b] = [w[i - 15]!, w[i - 2]!]
      const low = turned(a, 7) ^ turned(a, 18) ^ (a >>> 3)
      const high = turned(b, 17) ^ turned(b, 19) ^ (b >>> 10)
      w[i] = w[i - 16]! + low + w[i - 7]! + high
    }
    let [a = 0, b = 0, c = 0, d = 0, e = 0, f = 0, g = 0, h = 0] = this.#state
    for (let i = 0; i < 64; i++) {
      const one = h + (turned(e, 6) ^ turned(e, 11) ^ turned(e, 25)) + ((e & f) ^ (~e & g)) + ROUNDS[i]! + w[i]!
      const two = (turned(a, 2) ^ turned(a, 13) ^ turned(a, 22)) + ((a & b) ^ (a & c) ^ (b & c))
      ;[h, g, f, e, d, c, b, a] = [g, f, e, (d + one) | 0, c, b, a, (one + two) | 0]
    }
    for (const [i, x] of [a, b, c, d, e, f, g, h].entries()) this.#state[i] = this.#state[i]! + x
    this.#filled = 0
  }
}

/** Of SHA-256 only, which is all that mnc asks for. */
export const createHash = (_algorithm: 'sha256'): Sha256 => new Sha256()

export const randomBytes = (count: number): Uint8Array => crypto.getRandomValues(new Uint8Array(count))
