/** Stands in for Node's globals in a browser, as far as mnc uses them there: the bundle puts these in their place. */

const utf8 = new TextEncoder()

class WebBuffer extends Uint8Array {
  static alloc(size: number): WebBuffer {
    return new WebBuffer(size)
  }

  static allocUnsafeSlow(size: number): WebBuffer {
    return new WebBuffer(size)
  }

  static override from(
    source: ArrayLike<number> | Iterable<number> | ArrayBufferLike | string,
    at?: unknown,
    length?: unknown,
  ): WebBuffer {
    if (typeof source === 'string') {
      if (at !== 'base64') return new WebBuffer(utf8.encode(source))
      return new WebBuffer(Array.from(atob(source), (c) => c.charCodeAt(0)))
    }
    if (source instanceof ArrayBuffer) return new WebBuffer(source, Number(at ?? 0), length as number | undefined)
    return new WebBuffer(Array.from(source as Iterable<number>))
  }

  static concat(parts: readonly Uint8Array[]): WebBuffer {
    const out = new WebBuffer(parts.reduce((n, p) => n + p.length, 0))
    let at = 0
    for (const part of parts) {
      out.set(part, at)
      at += part.length
    }
    return out
  }

  static compare(a: Uint8Array, b: Uint8Array): number {
    const shared = Math.min(a.length, b.length)
    for (let i = 0; i < shared; i++) if (a[i] !== b[i]) return a[i]! < b[i]! ? -1 : 1
    return Math.sign(a.length - b.length)
  }

  static byteLength(text: string): number {
    return utf8.encode(text).length
  }

  static isBuffer(x: unknown): x is WebBuffer {
    return x instanceof WebBuffer
  }

  get #view(): DataView {
    return new DataView(this.buffer, this.byteOffset, this.byteLength)
  }

  write(text: string, at = 0): number {
    return utf8.encodeInto(text, this.subarray(at)).written
  }

  writeFloatLE(value: number, at = 0): number {
    this.#view.setFloat32(at, value, true)
    return at + 4
  }

  writeUInt32LE(value: number, at = 0): number {
    this.#view.setUint32(at, value, true)
    return at + 4
  }

  override toString(encoding?: unknown): string {
    if (encoding === 'hex') return Array.from(this, (b) => b.toString(16).padStart(2, '0')).join('')
    if (encoding === undefined || encoding === 'utf8') return new TextDecoder().decode(this)
    let text = ''
    // a call takes so many arguments and no more
    for (let at = 0; at < this.length; at += 8192) text += String.fromCharCode(...this.subarray(at, at + 8192))
    return encoding === 'base64' ? btoa(text) : text
  }
}

export { WebBuffer as Buffer }

export const process = { env: {} as Readonly<Record<string, string | undefined>> }

export const setImmediate = (work: () => void): void => void setTimeout(work)
