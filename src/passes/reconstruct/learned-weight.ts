/**
 * A quantised weight while it is learned. The engine sees the numbers that it takes, and gives back their gradient g; the
 * rest is done here.
 *
 *   direct     w' = s clip(round(w / s))          dL/dw = g inside of [lo, hi] and 0 outside (straight through)
 *              dL/ds = sum of g (q - w / s), or g q where w is clipped (LSQ, Esser et al. 2020)
 *   adaround   w' = s clip(floor(w / s) + h(v)),  h(v) = clip(1.2 sigmoid(v) - 0.1, 0, 1)
 *              dL/dv = g s h'(v), and that of  lambda sum(1 - |2 h(v) - 1|^beta), which drives h to 0 or 1
 *              (Nagel et al. 2020, arXiv:2004.10568, a rectified sigmoid; s stays)
 *
 * In the end w' is rounded for good: in `adaround` each weight is then the next number of the grid below or above.
 */
import { Tensor } from '../../graph/tensor.ts'
import type { WeightLayer } from '../../layers/layers.ts'
import { scaleIndices } from '../../layers/scale-layout.ts'
import { quantizeValue } from '../../quant/quantizer.ts'
import { stepGrid } from '../../quant/step-search.ts'
import { Adam } from './adam.ts'

/** Where training is: from 0 to 1, the factor of the learning rate, and the loss of the rounded block at the start. */
export interface Moment {
  readonly progress: number
  readonly rate: number
  readonly first: number
}

export interface LearnedWeight {
  readonly layer: WeightLayer
  /** What the layer multiplies with, for the engine. */
  value(): Tensor
  update(gradient: Float32Array, moment: Moment): void
  /** The weight on its grid, and the steps of that. */
  result(): { readonly weight: Float32Array; readonly scale: Float64Array }
}

/** The grid of a weight: by step, and which step each element has. */
class Grid {
  readonly scale: Float64Array
  readonly lo: Float64Array
  readonly hi: Float64Array
  readonly channel: Int32Array
  readonly mask: Float32Array | null

  constructor({ quant, tensor, mask }: WeightLayer) {
    const { steps, lo, hi } = stepGrid(quant!)
    this.scale = steps
    this.lo = lo
    this.hi = hi
    this.channel = Int32Array.from(scaleIndices(tensor.dims, quant!))
    this.mask = mask?.constant?.toFloat32() ?? null
  }
}

/** Of a step of the weight, and of the step itself, at the start. */
const DIRECT_RATE = 0.04
const SCALE_RATE = 0.002
/** Of a step to what it was: it stays above 0. */
const LEAST_RATIO = 2 ** -10
/** Of v, throughout: what has not come to an end of h by the last step is rounded without training behind. */
const ADAROUND_RATE = 0.08
/** The regulariser of a layer's weights together, as a part of the loss at the start: lambda is this over their number. */
const REGULARISER = 3
/** Before this part of all steps nothing drives h to its ends; from then on beta falls from the first to the second. */
const WARM_UP = 0.2
const BETAS = [20, 2] as const
/** The rectified sigmoid's ends. */
const [LOW, HIGH] = [-0.1, 1.1]

/** The weight moves, and its steps. `start`: rounds to what the training begins with. */
export class DirectWeight implements LearnedWeight {
  readonly layer: WeightLayer
  readonly #grid: Grid
  /** In units of the steps at the start, so that one rate suits all. */
  readonly #latent: Float32Array
  readonly #units: Float64Array
  readonly #ratios: Float32Array
  readonly #adam: Adam
  readonly #scaleAdam: Adam
  readonly #values: Float32Array

  constructor(layer: WeightLayer, start: Float32Array) {
    this.layer = layer
    this.#grid = new Grid(layer)
    this.#units = this.#grid.scale.slice()
    this.#latent = start.map((w, i) => w / this.#units[this.#grid.channel[i]!]!)
    this.#ratios = new Float32Array(this.#units.length).fill(1)
    this.#adam = new Adam(start.length)
    this.#scaleAdam = new Adam(this.#units.length)
    this.#values = new Float32Array(start.length)
  }

  value(): Tensor {
    const { channel, lo, hi, mask } = this.#grid
    for (let i = 0; i < this.#values.length; i++) {
      const c = channel[i]!
      const q = quantizeValue(this.#latent[i]! * (mask?.[i] ?? 1), this.#ratios[c]!, lo[c]!, hi[c]!)
      this.#values[i] = q * this.#ratios[c]! * this.#units[c]!
    }
    return Tensor.float32(this.layer.tensor.dims, this.#values)
  }

  update(gradient: Float32Array, { rate }: Moment): void {
    const { channel, lo, hi, mask } = this.#grid
    const own = new Float32Array(gradient.length)
    const scales = new Float32Array(this.#ratios.length)
    for (let i = 0; i < own.length; i++) {
      if (mask && mask[i] === 0) continue
      const c = channel[i]!
      const x = this.#latent[i]! / this.#ratios[c]!
      const g = gradient[i]! * this.#units[c]!
      const [least, most] = [lo[c]!, hi[c]!]
      const inside = x >= least && x <= most
      if (inside) own[i] = g
      scales[c]! += g * (inside ? quantizeValue(x, 1, least, most) - x : x < least ? least : most)
    }
    this.#adam.step(this.#latent, own, DIRECT_RATE * rate)
    this.#scaleAdam.step(this.#ratios, scales, SCALE_RATE * rate)
    this.#ratios.forEach((r, c) => {
      this.#ratios[c] = Math.max(r, LEAST_RATIO)
    })
  }

  result(): { weight: Float32Array; scale: Float64Array } {
    const scale = this.#units.map((u, c) => Math.fround(u * this.#ratios[c]!))
    const { channel, lo, hi, mask } = this.#grid
    const weight = this.#latent.map((x, i) => {
      const c = channel[i]!
      return Math.fround(quantizeValue(x * (mask?.[i] ?? 1), this.#ratios[c]!, lo[c]!, hi[c]!) * scale[c]!)
    })
    return { weight, scale }
  }
}

/** The choice between the two neighbours on the grid is learned. `start`: what it begins with, on the grid or not; `rate`: a factor. */
export class RoundedWeight implements LearnedWeight {
  readonly layer: WeightLayer
  readonly #grid: Grid
  readonly #rate: number
  readonly #floor: Float32Array
  readonly #v: Float32Array
  readonly #adam: Adam
  readonly #values: Float32Array

  constructor(layer: WeightLayer, float: Float32Array, start: Float32Array, rate: number) {
    this.layer = layer
    this.#grid = new Grid(layer)
    this.#rate = ADAROUND_RATE * rate
    const { scale, channel, mask } = this.#grid
    this.#floor = new Float32Array(float.length)
    this.#v = new Float32Array(float.length)
    for (let i = 0; i < float.length; i++) {
      const s = scale[channel[i]!]!
      const x = (float[i]! * (mask?.[i] ?? 1)) / s
      const q = start[i]! / s
      // the pair of neighbours that holds both the float weight, as near as may be, and the one at the start
      const floor = Math.min(Math.max(Math.floor(x), Math.ceil(q - 1 - NEAR)), Math.floor(q + NEAR))
      this.#floor[i] = floor
      this.#v[i] = inverse(Math.min(ENDS[1], Math.max(ENDS[0], (q + x) / 2 - floor)))
    }
    this.#adam = new Adam(float.length)
    this.#values = new Float32Array(float.length)
  }

  value(): Tensor {
    return Tensor.float32(this.layer.tensor.dims, this.#fill(rectified))
  }

  #fill(height: (v: number) => number): Float32Array {
    const { scale, channel, lo, hi, mask } = this.#grid
    for (let i = 0; i < this.#values.length; i++) {
      const c = channel[i]!
      const q = Math.min(hi[c]!, Math.max(lo[c]!, this.#floor[i]! + height(this.#v[i]!)))
      this.#values[i] = mask?.[i] === 0 ? 0 : q * scale[c]!
    }
    return this.#values
  }

  update(gradient: Float32Array, { progress, first }: Moment): void {
    const { scale, channel, lo, hi, mask } = this.#grid
    const isDriven = progress >= WARM_UP
    const t = (progress - WARM_UP) / (1 - WARM_UP)
    const beta = BETAS[1] + (BETAS[0] - BETAS[1]) * 0.5 * (1 + Math.cos(Math.PI * t))
    const lambda = (REGULARISER * first) / gradient.length
    const own = new Float32Array(gradient.length)
    for (let i = 0; i < own.length; i++) {
      if (mask && mask[i] === 0) continue
      const v = this.#v[i]!
      const sigmoid = 1 / (1 + Math.exp(-v))
      const h = sigmoid * (HIGH - LOW) + LOW
      if (h <= 0 || h >= 1) continue
      const slope = sigmoid * (1 - sigmoid) * (HIGH - LOW)
      const q = this.#floor[i]! + h
      const c = channel[i]!
      const pull = q > lo[c]! && q < hi[c]! ? gradient[i]! * scale[c]! : 0
      const d = 2 * h - 1
      const drive = isDriven ? -lambda * 2 * beta * Math.sign(d) * Math.abs(d) ** (beta - 1) : 0
      own[i] = (pull + drive) * slope
    }
    this.#adam.step(this.#v, own, this.#rate)
  }

  result(): { weight: Float32Array; scale: Float64Array } {
    return { weight: this.#fill((v) => (rectified(v) >= 0.5 ? 1 : 0)).slice(), scale: this.#grid.scale }
  }
}

/** Integers that float32 does not hold exactly. */
const NEAR = 1e-3
/** How near to an end h may begin: at the end itself it has no gradient. */
const ENDS = [0.05, 0.95] as const

const rectified = (v: number): number => Math.min(1, Math.max(0, (HIGH - LOW) / (1 + Math.exp(-v)) + LOW))

/** The v of this h. */
const inverse = (h: number): number => -Math.log((HIGH - LOW) / (h - LOW) - 1)
