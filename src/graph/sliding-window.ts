/** Where the windows of convolutions and pools lie over their input, with `auto_pad` resolved. */
import type { Node } from './graph.ts'

/** One entry for each spatial axis. Window o reads positions o * stride - begin + k * dilation, k below `kernel`. */
export interface SlidingWindow {
  readonly kernel: readonly number[]
  readonly stride: readonly number[]
  readonly dilation: readonly number[]
  readonly begin: readonly number[]
  /** Declared (or automatic) padding at the end; `ceil_mode` may let the last window reach beyond it. */
  readonly end: readonly number[]
  readonly inSize: readonly number[]
  readonly outSize: readonly number[]
}

/** Of a Conv or a pool; the sizes are those of its spatial axes. */
export function slidingWindow(
  node: Node,
  kernel: readonly number[],
  inSize: readonly number[],
  outSize: readonly number[],
): SlidingWindow {
  const ones = kernel.map(() => 1)
  const stride = node.ints('strides', ones)
  const dilation = node.ints('dilations', ones)
  const same = autoPad(node)
  if (!same) {
    const pads = explicitPads(node, kernel.length)
    const [begin, end] = [pads.slice(0, kernel.length), pads.slice(kernel.length)]
    return { kernel, stride, dilation, begin, end, inSize, outSize }
  }
  const total = kernel.map((k, i) =>
    Math.max(0, (outSize[i]! - 1) * stride[i]! + (k - 1) * dilation[i]! + 1 - inSize[i]!),
  )
  const begin = total.map((t) => (same === 'SAME_UPPER' ? Math.floor(t / 2) : Math.ceil(t / 2)))
  return { kernel, stride, dilation, begin, end: total.map((t, i) => t - begin[i]!), inSize, outSize }
}

/**
 * How much a ConvTranspose leaves out before its first output: the padding of the convolution that it transposes. `kernel`,
 * `x` and `y` are the spatial sizes of its weight, input and output.
 */
export function croppedBefore(
  node: Node,
  kernel: readonly number[],
  x: readonly number[],
  y: readonly number[],
): readonly number[] {
  const same = autoPad(node)
  if (!same && !node.attributes.has('output_shape')) return explicitPads(node, kernel.length).slice(0, kernel.length)
  const ones = kernel.map(() => 1)
  const [stride, dilation] = [node.ints('strides', ones), node.ints('dilations', ones)]
  const extra = node.ints('output_padding', [])
  return kernel.map((k, i) => {
    const whole = (x[i]! - 1) * stride[i]! + (k - 1) * dilation[i]! + 1 + (extra[i] ?? 0)
    const total = Math.max(0, whole - y[i]!)
    return same === 'SAME_UPPER' ? Math.floor(total / 2) : Math.ceil(total / 2)
  })
}

/** Whether windows reach beyond the input of a Conv or a pool, as far as its attributes say. */
export const padsInput = (node: Node): boolean => autoPad(node) !== null || explicitPads(node, 0).some((p) => p !== 0)

function autoPad(node: Node): 'SAME_UPPER' | 'SAME_LOWER' | null {
  const auto = node.string('auto_pad', 'NOTSET')
  return auto === 'SAME_UPPER' || auto === 'SAME_LOWER' ? auto : null
}

/** VALID: none, whatever `pads` says. */
const explicitPads = (node: Node, axes: number): readonly number[] => {
  const none = Array<number>(2 * axes).fill(0)
  return node.string('auto_pad', 'NOTSET') === 'VALID' ? none : node.ints('pads', none)
}
