/**
 * The factor on the loss of a mixed-precision step, adapted as the run proceeds: halved where a gradient overflows (that step
 * changes nothing), doubled after a long time without one. Powers of two: they change no digit of a float32 gradient.
 */
export interface LossScaleState {
  readonly scale: number
  /** Steps since it was last changed. */
  readonly since: number
  /** Steps that an overflow has cost, in all. */
  readonly skipped: number
}

const FIRST = 2 ** 16
const MOST = 2 ** 24
const LEAST = 2 ** -8
/** Steps without an overflow before it is doubled: PyTorch's growth_interval. */
const PATIENCE = 2000

export class LossScale {
  #scale: number
  #since: number
  #skipped: number

  constructor({ scale, since, skipped }: LossScaleState = { scale: FIRST, since: 0, skipped: 0 }) {
    this.#scale = scale
    this.#since = since
    this.#skipped = skipped
  }

  get state(): LossScaleState {
    return { scale: this.#scale, since: this.#since, skipped: this.#skipped }
  }

  get scale(): number {
    return this.#scale
  }

  /** After a step whose gradient was finite. */
  passed(): void {
    if (++this.#since < PATIENCE) return
    this.#scale = Math.min(MOST, this.#scale * 2)
    this.#since = 0
  }

  /** After an overflow; false if no scale helps any more. */
  overflowed(): boolean {
    this.#scale /= 2
    this.#since = 0
    this.#skipped++
    return this.#scale >= LEAST
  }
}
