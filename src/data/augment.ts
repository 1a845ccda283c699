/**
 * Applies an augmentation policy to one image and writes it, normalised, into a batch. All randomness comes from the
 * stream that the caller gives for this image, so the result does not depend on the thread or the order.
 */
import type { Rng } from '../base/rng.ts'
import { Canvas } from './canvas.ts'
import { affine, rotation, shearing, translation } from './geometry.ts'
import {
  autoContrast,
  brightness,
  color,
  contrast,
  equalize,
  invert,
  posterize,
  sharpness,
  solarize,
} from './image-ops.ts'
import type { ImageShape } from './image-shape.ts'
import { ImageWriter, lookUp, lookUpBackwards } from './image-writer.ts'
import { type AugmentOp, type AugmentPolicy, magnitudeOf } from './policy.ts'
import type { Preprocess } from './preprocess.ts'

interface Step {
  readonly op: AugmentOp
  readonly probability: number
  readonly magnitude: number
}

type Operation = (canvas: Canvas, magnitude: number, rng: Rng, map: Int32Array) => void

const signed = (magnitude: number, rng: Rng): number => (rng.chance(0.5) ? magnitude : -magnitude)

/** A square around a uniformly drawn pixel; its top left corner for a given side. */
const around = (centre: number, side: number): number => centre - Math.floor(side / 2)

const operations: Readonly<Record<AugmentOp, Operation>> = {
  invert,
  contrast,
  sharpness,
  solarize,
  color,
  posterize,
  brightness,
  equalize,
  'auto-contrast': autoContrast,
  rotate: (canvas, m, rng, map) => affine(canvas, rotation(signed(m, rng), canvas.height, canvas.width), map),
  'translate-x': (canvas, m, rng, map) => affine(canvas, translation(signed(m, rng), 0), map),
  'translate-y': (canvas, m, rng, map) => affine(canvas, translation(0, signed(m, rng)), map),
  'shear-x': (canvas, m, rng, map) => affine(canvas, shearing(signed(m, rng), 0), map),
  'shear-y': (canvas, m, rng, map) => affine(canvas, shearing(0, signed(m, rng)), map),
  cutout: (canvas, m, rng) => {
    const side = Math.trunc(m)
    const [y, x] = [rng.integer(canvas.height), rng.integer(canvas.width)]
    canvas.expose(around(y, side), around(x, side), side, side)
  },
}

export class Augmenter {
  readonly writer: ImageWriter
  readonly #canvas: Canvas
  readonly #steps: readonly Step[]
  readonly #policy: AugmentPolicy
  readonly #map: Int32Array
  readonly #plain: boolean

  constructor(shape: ImageShape, preprocess: Preprocess, policy: AugmentPolicy) {
    this.writer = new ImageWriter(shape, preprocess)
    // The mean colour, which becomes nearly 0; exposed pixels become exactly 0.
    const fill = preprocess.mean.map((m) => Math.max(0, Math.min(255, Math.round(m * preprocess.scale))))
    this.#canvas = new Canvas(shape, fill.slice(0, shape.channels))
    this.#policy = policy
    this.#steps = (policy.tuples ?? []).map((t) => ({ ...t, magnitude: magnitudeOf(t) }))
    this.#map = new Int32Array(shape.height * shape.width)
    this.#plain = !policy.draw && !policy.crop && !policy.flip && !policy.cutout
  }

  /** Image images[from..] (C,H,W bytes) to out[base..], drawing from `rng`. */
  write(images: Uint8Array, from: number, rng: Rng, out: Float32Array, base: number): void {
    if (this.#plain) {
      this.writer.write(images, from, out, base)
      return
    }
    const { writer } = this
    const canvas = this.#canvas
    canvas.load(images, from)
    this.#apply(rng)
    const { planes, at } = writer.target(out, base)
    const { crop, flip = 0, cutout } = this.#policy
    const pad = crop?.padding ?? 0
    const dy = pad > 0 ? rng.integer(2 * pad + 1) - pad : 0
    const dx = pad > 0 ? rng.integer(2 * pad + 1) - pad : 0
    const mirrored = flip > 0 && rng.chance(flip)
    writePlanes(canvas, writer, dy, dx, mirrored, planes, at)
    if (cutout && rng.chance(cutout.probability ?? 1)) {
      const [y, x] = [rng.integer(canvas.height), rng.integer(canvas.width)]
      const { size } = cutout
      clear(planes, at, writer.channels, canvas, around(y, size), around(x, size), size)
    }
    writer.finish(out, base)
  }

  #apply(rng: Rng): void {
    const steps = this.#steps
    for (let n = this.#policy.draw ?? 0; n > 0; n--) {
      const { op, probability, magnitude } = steps[rng.integer(steps.length)]!
      if (rng.chance(probability)) operations[op](this.#canvas, magnitude, rng, this.#map)
    }
  }
}

/** Output (y, x) is canvas (y + dy, x + dx), normalised; 0 where that is outside or exposed; mirrored at the end. */
function writePlanes(
  canvas: Canvas,
  writer: ImageWriter,
  dy: number,
  dx: number,
  mirrored: boolean,
  planes: Float32Array,
  at: number,
): void {
  const { height, width, plane, pixels, mask, exposed } = canvas
  const { tables, channels } = writer
  const [x0, x1] = [Math.max(0, -dx), Math.min(width, width - dx)]
  const [y0, y1] = [Math.max(0, -dy), Math.min(height, height - dy)]
  const count = x1 - x0
  for (let c = 0; c < channels; c++) {
    const table = tables[c]!
    const source = (canvas.channels === 1 ? 0 : c * plane) + dx + x0
    const to = at + c * plane
    if (dx !== 0 || dy !== 0) planes.fill(0, to, to + plane)
    for (let y = y0; y < y1; y++) {
      const from = source + (y + dy) * width
      const row = to + y * width
      if (mirrored) lookUpBackwards(pixels, from, count, table, planes, row + width - 1 - x0)
      else lookUp(pixels, from, count, table, planes, row + x0)
      if (exposed)
        clearExposed(mask, (y + dy) * width + dx + x0, count, planes, mirrored, row + (mirrored ? width - 1 - x0 : x0))
    }
  }
}

function clearExposed(
  mask: Uint8Array,
  from: number,
  count: number,
  planes: Float32Array,
  mirrored: boolean,
  at: number,
): void {
  const step = mirrored ? -1 : 1
  for (let i = 0; i < count; i++) if (mask[from + i] === 1) planes[at + step * i] = 0
}

function clear(
  planes: Float32Array,
  at: number,
  channels: number,
  { height, width }: ImageShape,
  top: number,
  left: number,
  size: number,
): void {
  const [y0, y1] = [Math.max(0, top), Math.min(height, top + size)]
  const [x0, x1] = [Math.max(0, left), Math.min(width, left + size)]
  for (let c = 0; c < channels; c++)
    for (let y = y0; y < y1; y++) {
      const row = at + (c * height + y) * width
      planes.fill(0, row + x0, row + x1)
    }
}
