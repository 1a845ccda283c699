/** A quantised value in the forms in which nodes read it; each is made once, on demand. */
import type { Builder } from '../../graph/builder.ts'
import type { Value } from '../../graph/graph.ts'
import type { Dims } from './steps.ts'

/** How rows lie: see row-pairs.ts. */
export type Pairing = 'single' | 'rows' | 'odd'

/** [N, C, H, W], or [N, H W, C]. */
export type Place = 'nchw' | 'flat'

export interface Form {
  /** Of the network's value. */
  readonly dims: Dims
  readonly pairing: Pairing
  readonly place: Place
  /** What was subtracted from the levels and the zero point. */
  readonly shift?: number
}

/** Dims of the held form of a value of `dims`. */
export function pairedDims(dims: Dims, pairing: Pairing): Dims {
  if (pairing === 'single') return dims
  const { channels, height, width } = dims
  return { channels: 2 * channels, height: height / 2 + (pairing === 'odd' ? 1 : 0), width }
}

export class Held {
  readonly value: Value
  readonly dims: Dims
  readonly pairing: Pairing
  readonly place: Place
  readonly shift: number
  readonly #made = new Map<string, Value>()

  constructor(value: Value, { dims, pairing, place, shift = 0 }: Form) {
    this.value = value
    this.dims = dims
    this.pairing = pairing
    this.place = place
    this.shift = shift
    this.#made.set(`${place} ${pairing}`, value)
  }

  /** Conversions are right after what they convert, so that every reader finds them before itself. */
  as(place: Place, pairing: Pairing): Value {
    const key = `${place} ${pairing}`
    const made = this.#made.get(key) ?? this.#convert(place, pairing)
    this.#made.set(key, made)
    return made
  }

  #convert(place: Place, pairing: Pairing): Value {
    const dims = pairedDims(this.dims, pairing)
    if (place === 'flat') return toFlat(this.as('nchw', pairing), dims)
    if (pairing === this.pairing) return toNchw(this.as('flat', pairing), dims)
    const x = this.as('nchw', this.pairing)
    return pairing === 'rows' ? pairRows(x, this.dims) : splitRows(x, this.dims)
  }
}

const behind = (x: Value): Builder => x.graph.after(x.producer!)

export function toFlat(x: Value, { channels }: Dims): Value {
  const b = behind(x)
  return b.op('Reshape', [b.op('Transpose', [x], { perm: [0, 2, 3, 1] }), b.ints([0, -1, channels])])
}

function toNchw(x: Value, { channels, height, width }: Dims): Value {
  const b = behind(x)
  return b.op('Transpose', [b.op('Reshape', [x, b.ints([0, height, width, channels])])], { perm: [0, 3, 1, 2] })
}

function pairRows(x: Value, { channels, height, width }: Dims): Value {
  const b = behind(x)
  const rows = b.op('Reshape', [x, b.ints([0, channels, height / 2, 2, width])])
  const pairs = b.op('Transpose', [rows], { perm: [0, 3, 1, 2, 4] })
  return b.op('Reshape', [pairs, b.ints([0, 2 * channels, height / 2, width])])
}

function splitRows(x: Value, { channels, height, width }: Dims): Value {
  const b = behind(x)
  const pairs = b.op('Reshape', [x, b.ints([0, 2, channels, height / 2, width])])
  const rows = b.op('Transpose', [pairs], { perm: [0, 2, 3, 1, 4] })
  return b.op('Reshape', [rows, b.ints([0, channels, height, width])])
}
