/** Adam (Kingma and Ba, 2015) for one array of numbers, on the host: blocks have few parameters. */
const [MEAN, SQUARE, LEAST] = [0.9, 0.999, 1e-12]

export class Adam {
  readonly #mean: Float32Array
  readonly #square: Float32Array
  #steps = 0

  constructor(size: number) {
    this.#mean = new Float32Array(size)
    this.#square = new Float32Array(size)
  }

  /** Moves `values` in place; a gradient of zero that always was zero moves nothing. */
  step(values: Float32Array, gradient: Float32Array, rate: number): void {
    this.#steps++
    const first = 1 / (1 - MEAN ** this.#steps)
    const second = 1 / (1 - SQUARE ** this.#steps)
    for (let i = 0; i < values.length; i++) {
      const g = gradient[i]!
      const m = MEAN * this.#mean[i]! + (1 - MEAN) * g
      const v = SQUARE * this.#square[i]! + (1 - SQUARE) * g * g
      this.#mean[i] = m
      this.#square[i] = v
      values[i]! -= (rate * m * first) / (Math.sqrt(v * second) + LEAST)
    }
  }
}
