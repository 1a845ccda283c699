/** Fourier transforms as products with matrices, columns to images as one, samples of a grid as sums over all pixels. */
import type { Tensor as Tf } from '@tensorflow/tfjs-core'
import { tf } from '../tfjs.ts'
import type { OracleOp } from '../tfjs-oracle.ts'
import { ints, range, wrapAxis } from './shapes.ts'

const product = (a: readonly number[]): number => a.reduce((p, d) => p * d, 1)

/** [points, bins] of cos or sin of 2 pi j k / n; for the inverse of one side times how often bin j counts. */
function wave(f: (t: number) => number, n: number, points: number, bins: number, times: (j: number) => number): Tf {
  const values = new Float32Array(points * bins)
  for (let j = 0; j < points; j++)
    for (let k = 0; k < bins; k++) values[j * bins + k] = times(j) * f((2 * Math.PI * ((j * k) % n)) / n)
  return tf.tensor2d(values, [points, bins])
}

/** Cut or filled up with zeros along the last axis. */
function fitted(x: Tf, points: number): Tf {
  const have = x.shape.at(-1)!
  const begin = x.shape.map(() => 0)
  if (have >= points) return tf.slice(x, begin, [...x.shape.slice(0, -1), points])
  return tf.pad(x, [...begin.slice(1).map((): [number, number] => [0, 0]), [0, points - have]])
}

/** The axes of `x` with `axis` last, multiplied with a matrix, and back. */
function along(x: Tf, axis: number, points: number, matrix: Tf): Tf {
  const perm = [...range(x.shape.length).filter((i) => i !== axis), axis]
  const moved = fitted(tf.transpose(x, perm), points)
  const lead = moved.shape.slice(0, -1)
  const y = tf.matMul(tf.reshape(moved, [product(lead), points]), matrix)
  return tf.transpose(
    tf.reshape(y, [...lead, matrix.shape[1]!]),
    range(perm.length).map((i) => perm.indexOf(i)),
  )
}

/** Of a grid's coordinate: where it lies among `size` pixels. */
function pixel(g: Tf, size: number, aligned: boolean): Tf {
  const scaled = tf.mul(tf.add(g, 1), (aligned ? size - 1 : size) / 2)
  return aligned ? scaled : tf.sub(scaled, 0.5)
}

function folded(p: Tf, size: number, aligned: boolean, padding: string): Tf {
  if (padding === 'border') return tf.clipByValue(p, 0, size - 1)
  if (padding !== 'reflection') return p
  const [low, span] = aligned ? [0, size - 1] : [-0.5, size]
  const away = tf.abs(tf.sub(p, low))
  const rest = tf.sub(away, tf.mul(tf.floor(tf.div(away, 2 * span)), 2 * span))
  return tf.clipByValue(tf.add(tf.sub(span, tf.abs(tf.sub(rest, span))), low), 0, size - 1)
}

/** 1 where it holds, else 0: a constant, for comparisons have no gradient. */
const where = (t: Tf, holds: (v: number) => boolean): Tf =>
  tf.tensor(
    Array.from(t.dataSync(), (v) => (holds(v) ? 1 : 0)),
    t.shape,
  )

/** Keys' kernel at distance |d|, a = -0.75. */
function cubic(d: Tf): Tf {
  const t = tf.abs(d)
  const [t2, t3] = [tf.mul(t, t), tf.mul(t, tf.mul(t, t))]
  const near = tf.add(tf.sub(tf.mul(t3, 1.25), tf.mul(t2, 2.25)), 1)
  const far = tf.add(tf.add(tf.mul(t3, -0.75), tf.mul(t2, 3.75)), tf.add(tf.mul(t, -6), 3))
  return tf.add(
    tf.mul(
      near,
      where(t, (v) => v <= 1),
    ),
    tf.mul(
      far,
      where(t, (v) => v > 1 && v < 2),
    ),
  )
}

export const transformOracle: Readonly<Record<string, OracleOp>> = {
  DFT([x, length, axisTensor], n) {
    const rank = x!.shape.length
    const axis = wrapAxis(axisTensor ? ints(axisTensor)![0]! : -2, rank)
    const [inverse, onesided] = [n.int('inverse', 0) === 1, n.int('onesided', 0) === 1]
    const given = x!.shape[axis]!
    const whole = inverse && onesided
    const size = length ? ints(length)![0]! : whole ? 2 * (given - 1) : given
    const half = Math.floor(size / 2) + 1
    const points = whole ? half : size
    const bins = onesided && !inverse ? half : size
    const times = (j: number): number => (whole && j !== 0 && 2 * j !== size ? 2 : 1) / (inverse ? size : 1)
    const [cos, sin] = [Math.cos, Math.sin].map((f) => wave(f, size, points, bins, times)) as [Tf, Tf]
    const parts = x!.shape.at(-1) === 2 ? tf.split(x!, 2, rank - 1) : [x!, tf.zerosLike(x!)]
    const [re, im] = parts as [Tf, Tf]
    const sign = inverse ? -1 : 1
    const real = tf.add(along(re, axis, points, cos), tf.mul(along(im, axis, points, sin), sign))
    if (whole) return real
    const imaginary = tf.sub(along(im, axis, points, cos), tf.mul(along(re, axis, points, sin), sign))
    return tf.concat([real, imaginary], rank - 1)
  },
  Col2Im([x, image, block], n) {
    const [size, kernel] = [ints(image)!, ints(block)!]
    const rank = size.length
    const [strides, dilations] = [
      n.ints(
        'strides',
        size.map(() => 1),
      ),
      n.ints(
        'dilations',
        size.map(() => 1),
      ),
    ]
    const pads = n.ints('pads', Array<number>(2 * rank).fill(0))
    const blocks = size.map((d, i) => {
      const reach = dilations[i]! * (kernel[i]! - 1) + 1
      return Math.floor((d + pads[i]! + pads[i + rank]! - reach) / strides[i]!) + 1
    })
    const [columns, pixels] = [product(kernel) * product(blocks), product(size)]
    const hot = new Float32Array(columns * pixels)
    for (let c = 0; c < columns; c++) {
      let [offset, at] = [Math.floor(c / product(blocks)), c % product(blocks)]
      let [position, step, inside] = [0, 1, true]
      for (let i = rank - 1; i >= 0; i--) {
        const p = (at % blocks[i]!) * strides[i]! + (offset % kernel[i]!) * dilations[i]! - pads[i]!
        at = Math.floor(at / blocks[i]!)
        offset = Math.floor(offset / kernel[i]!)
        if (p < 0 || p >= size[i]!) inside = false
        position += p * step
        step *= size[i]!
      }
      if (inside) hot[c * pixels + position] = 1
    }
    const [batch, rows] = x!.shape as [number, number]
    const channels = rows / product(kernel)
    const lines = tf.reshape(x!, [batch * channels, columns])
    return tf.reshape(tf.matMul(lines, tf.tensor2d(hot, [columns, pixels])), [batch, channels, ...size])
  },
  GridSample([x, grid], n) {
    const [batch, channels, ...sizes] = x!.shape as [number, number, ...number[]]
    const rank = sizes.length
    const places = product(grid!.shape.slice(1, -1))
    const aligned = n.int('align_corners', 0) === 1
    const padding = n.string('padding_mode', 'zeros')
    const mode = n.string('mode', 'linear')
    const coordinates = tf.split(tf.reshape(grid!, [batch, places, rank]), rank, 2)
    let image = x!
    // weights of every pixel for every place, axis by axis: [batch, places, pixels so far]
    let weights: Tf = tf.ones([batch, places, 1])
    sizes.forEach((size, i) => {
      const raw = pixel(coordinates[rank - 1 - i]!, size, aligned)
      // a cubic tap outside reads what the padding puts there
      const wide = mode === 'cubic' ? range(size + 24).map((k) => k - 12) : range(size)
      const at = mode === 'cubic' ? raw : folded(raw, size, aligned, padding)
      const distance = tf.sub(at, tf.tensor3d(wide, [1, 1, wide.length]))
      const own =
        mode === 'nearest'
          ? where(tf.sub(tf.round(at), tf.tensor3d(wide, [1, 1, wide.length])), (v) => v === 0)
          : mode === 'cubic'
            ? cubic(distance)
            : tf.relu(tf.sub(1, tf.abs(distance)))
      const source = wide.map((k) => folded(tf.scalar(k), size, aligned, padding).dataSync()[0]!)
      const seen = source.map((k) => (k >= 0 && k < size ? 1 : 0))
      const inside = tf.mul(own, tf.tensor3d(seen, [1, 1, wide.length]))
      image = tf.gather(
        image,
        tf.tensor1d(
          source.map((k, j) => (seen[j] ? k : 0)),
          'int32',
        ),
        i + 2,
      )
      const product2 = tf.mul(tf.expandDims(weights, 3), tf.expandDims(inside, 2))
      weights = tf.reshape(product2, [batch, places, weights.shape[2]! * wide.length])
    })
    const flat = tf.reshape(image, [batch, channels, weights.shape[2]!])
    return tf.reshape(tf.matMul(flat, weights, false, true), [batch, channels, ...grid!.shape.slice(1, -1)])
  },
}
