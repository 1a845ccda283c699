/**
 * Convolutions. TensorFlow.js' kernels want channels last on most backends, so images are transposed before and after;
 * padding is added before and cropped after.
 *
 * Not covered: three spatial axes, stride and dilation together, a dilated transposed convolution.
 */
import type { Node } from '../../graph/graph.ts'
import { croppedBefore, slidingWindow } from '../../graph/sliding-window.ts'
import {
  type KernelCall,
  type KernelTable,
  NotCovered,
  outputSizes,
  perChannel,
  range,
  type Tf,
  type TfTensor,
} from './kernel.ts'
import { padded } from './shapes.ts'

interface Geometry {
  readonly stride: [number, number]
  readonly dilation: [number, number]
  readonly begin: readonly number[]
  readonly end: readonly number[]
}

type Rank4 = import('@tensorflow/tfjs-core').Tensor4D

const channelsLast = (tf: Tf, x: TfTensor): Rank4 => tf.transpose(x as Rank4, [0, 2, 3, 1])
const channelsFirst = (tf: Tf, x: TfTensor): TfTensor => tf.transpose(x, [0, 3, 1, 2])

/** One spatial axis becomes two, the first of size 1. */
const asImages = (tf: Tf, t: TfTensor): Rank4 =>
  t.rank === 3 ? tf.reshape(t, [t.shape[0]!, t.shape[1]!, 1, t.shape[2]!]) : (t as Rank4)

function pair(node: Node, name: string, spatial: number): [number, number] {
  const given = node.ints(name, Array<number>(spatial).fill(1))
  return spatial === 1 ? [1, given[0]!] : [given[0]!, given[1]!]
}

function geometryOf(node: Node, size: readonly number[], kernel: readonly number[], out: readonly number[]): Geometry {
  const spatial = size.length
  if (spatial > 2) throw new NotCovered(`${spatial} spatial axes`)
  const w = slidingWindow(node, kernel, size, out)
  const two = (list: readonly number[], first: number): [number, number] =>
    spatial === 1 ? [first, list[0]!] : [list[0]!, list[1]!]
  return { stride: two(w.stride, 1), dilation: two(w.dilation, 1), begin: two(w.begin, 0), end: two(w.end, 0) }
}

function conv(c: KernelCall): TfTensor {
  const { tf, node } = c
  const [x, w, bias] = c.x as [TfTensor, TfTensor, TfTensor | undefined]
  const spatialOut = outputSizes(node, 2)
  const g = geometryOf(node, x.shape.slice(2), w.shape.slice(2), spatialOut)
  if (Math.max(...g.stride) > 1 && Math.max(...g.dilation) > 1) throw new NotCovered('stride and dilation together')
  const group = node.int('group', 1)
  const images = padded(tf, channelsLast(tf, asImages(tf, x)), [0, ...g.begin, 0], [0, ...g.end, 0]) as Rank4
  const filter = tf.transpose(asImages(tf, w), [2, 3, 1, 0])
  const run = (i: Rank4, f: Rank4): Rank4 => tf.conv2d(i, f, g.stride, 'valid', 'NHWC', g.dilation)
  const y = channelsFirst(tf, group === 1 ? run(images, filter) : grouped(tf, images, filter, group, run))
  const shaped = tf.reshape(y, [x.shape[0]!, w.shape[0]!, ...spatialOut])
  return bias ? tf.add(shaped, perChannel(tf, bias, x.rank)) : shaped
}

function grouped(tf: Tf, x: Rank4, w: Rank4, group: number, run: (x: Rank4, w: Rank4) => Rank4): Rank4 {
  const [xs, ws] = [tf.split<Rank4>(x, group, 3), tf.split<Rank4>(w, group, 3)]
  return tf.concat(
    range(group).map((i) => run(xs[i]!, ws[i]!)),
    3,
  )
}

/** The gradient of a convolution without pads, which gives every position; then the pads are cropped off. */
function convTranspose(c: KernelCall): TfTensor {
  const { tf, node } = c
  const [x, w, bias] = c.x as [TfTensor, TfTensor, TfTensor | undefined]
  const spatial = x.rank - 2
  const out = outputSizes(node, 2)
  if (spatial > 2) throw new NotCovered(`${spatial} spatial axes`)
  const [stride, dilation] = [pair(node, 'strides', spatial), pair(node, 'dilations', spatial)]
  if (Math.max(...dilation) > 1) throw new NotCovered('a dilated transposed convolution')
  const images = channelsLast(tf, asImages(tf, x))
  const [n, h, width] = images.shape
  const filter = asImages(tf, w)
  const [kh, kw] = filter.shape.slice(2) as [number, number]
  const full = [(h - 1) * stride[0] + kh, (width - 1) * stride[1] + kw] as const
  const group = node.int('group', 1)
  const perOut = w.shape[1]!
  const run = (i: Rank4, f: Rank4): Rank4 => tf.conv2dTranspose(i, f, [n, full[0], full[1], perOut], stride, 'valid')
  // [in, out, h, w] -> [h, w, out, in]
  const turned = tf.transpose(filter, [2, 3, 1, 0])
  const xs = group === 1 ? [images] : tf.split<Rank4>(images, group, 3)
  const ws = group === 1 ? [turned] : tf.split<Rank4>(turned, group, 3)
  const all =
    xs.length === 1
      ? run(xs[0]!, ws[0]!)
      : tf.concat(
          xs.map((part, i) => run(part, ws[i]!)),
          3,
        )
  const target = spatial === 1 ? [1, out[0]!] : [out[0]!, out[1]!]
  const begin = croppedBefore(node, [kh, kw].slice(2 - spatial), x.shape.slice(2), out)
  const start = spatial === 1 ? [0, begin[0]!] : [...begin]
  const missing = target.map((t, i) => Math.max(0, start[i]! + t - full[i]!))
  const reached = padded(tf, all, [0, 0, 0, 0], [0, missing[0]!, missing[1]!, 0])
  const cropped = tf.slice(reached, [0, start[0]!, start[1]!, 0], [n, target[0]!, target[1]!, perOut * group])
  const y = tf.reshape(channelsFirst(tf, cropped), [n, perOut * group, ...out])
  return bias ? tf.add(y, perChannel(tf, bias, x.rank)) : y
}

export const convolutions: KernelTable = { Conv: conv, ConvTranspose: convTranspose }
