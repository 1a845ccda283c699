/** What the gradients of Conv and ConvTranspose need to know of a convolution's sizes. */
import type { Node } from '../graph/graph.ts'

export interface Geometry {
  readonly n: number
  readonly cin: number
  readonly cout: number
  readonly group: number
  readonly kernel: readonly number[]
  readonly stride: readonly number[]
  readonly dilation: readonly number[]
  readonly begin: readonly number[]
  readonly end: readonly number[]
  readonly inSize: readonly number[]
  readonly outSize: readonly number[]
}

/** Of a Conv node with known shapes, auto_pad resolved. */
export function geometryOf(node: Node): Geometry {
  const x = node.input(0).dims
  const w = node.input(1).dims
  const y = node.output.dims
  const spatial = w.length - 2
  const ones = Array<number>(spatial).fill(1)
  const kernel = w.slice(2)
  const stride = node.ints('strides', ones)
  const dilation = node.ints('dilations', ones)
  const inSize = x.slice(2)
  const outSize = y.slice(2)
  const auto = node.string('auto_pad', 'NOTSET')
  const pads = node.ints('pads', Array<number>(2 * spatial).fill(0))
  const begin: number[] = []
  const end: number[] = []
  for (let i = 0; i < spatial; i++) {
    const span = (kernel[i]! - 1) * dilation[i]! + 1
    if (auto === 'NOTSET' || auto === 'VALID' || auto === '') {
      begin.push(auto === 'VALID' ? 0 : pads[i]!)
      end.push(auto === 'VALID' ? 0 : pads[i + spatial]!)
    } else {
      const total = Math.max(0, (outSize[i]! - 1) * stride[i]! + span - inSize[i]!)
      const small = Math.floor(total / 2)
      begin.push(auto === 'SAME_UPPER' ? small : total - small)
      end.push(auto === 'SAME_UPPER' ? total - small : small)
    }
  }
  const group = node.int('group', 1)
  return { n: x[0]!, cin: x[1]!, cout: w[0]!, group, kernel, stride, dilation, begin, end, inSize, outSize }
}
