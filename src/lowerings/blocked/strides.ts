/**
 * What the gradients of a convolution with stride s need, on blocked values.
 *
 * The input's gradient (ConvTranspose) is a convolution with stride 1 whose output channels are s x s phases of the
 * image, taken apart: with k = a + begin - s r,  dx[s q + a] = sum over r of W[k] dy[q + r]. Taps that a phase does not
 * have are zero. SpaceToDepth and its inverse move whole runs of c channels.
 */
import type { Builder } from '../../graph/builder.ts'
import type { Node, Value } from '../../graph/graph.ts'
import { isStatic } from '../../graph/types.ts'
import { type BlockedLayout, DOMAIN } from './layout.ts'
import { blockedWeights, type Dims4, isDims4 } from './weights.ts'

export function blockSpaceToDepth(node: Node, layout: BlockedLayout): boolean {
  const x = layout.twin(node.input(0))
  const s = node.int('blocksize', 1)
  if (!x || !layout.isWhole(x)) return false
  const [n, c, h, w] = x.dims
  const b = layout.graph.before(node)
  const lanes = layout.block
  const apart = b.op('Reshape', [x.value, b.ints([n, c / lanes, h / s, s, w / s, s, lanes])])
  const phases = b.op('Transpose', [apart], { perm: [0, 3, 5, 1, 2, 4, 6] })
  const dims: Dims4 = [n, s * s * c, h / s, w / s]
  layout.replace(node, layout.closed(b, phases, dims), dims[1], dims)
  return true
}

/** [n, (a b I), h, w] of s x s phases a b, blocked, as the image [n, I, s h, s w]. */
function together(b: Builder, phases: Value, dims: Dims4, s: number, lanes: number): Value {
  const [n, c, h, w] = dims
  const apart = b.op('Reshape', [phases, b.ints([n, s, s, c / lanes, h, w, lanes])])
  const image = b.op('Transpose', [apart], { perm: [0, 3, 4, 1, 5, 2, 6] })
  return b.op('Reshape', [image, b.ints([n, c, h * s, w * s])])
}

/** Applies to one group, no dilation, equal strides, and an image of exactly s times the size. */
export function blockConvTranspose(node: Node, layout: BlockedLayout): boolean {
  const dy = layout.twin(node.input(0))
  const [w, to] = [node.input(1).type?.dims ?? null, node.output.type?.dims ?? null]
  if (!dy || node.inputs[2] || !isDims4(w) || !isStatic(to)) return false
  const [o, i, kh, kw] = w
  const [n, , h, width] = dy.dims
  const [s, other] = node.ints('strides', [1, 1]) as [number, number]
  const fits =
    s > 1 && s === other && node.int('group', 1) === 1 && node.ints('dilations', [1, 1]).every((d) => d === 1)
  const whole = to[2] === s * h && to[3] === s * width && i % layout.block === 0
  const pads = node.ints('pads', [])
  const derived = node.attributes.has('output_shape') || node.string('auto_pad', 'NOTSET') !== 'NOTSET'
  if (!fits || !whole || derived || pads.length !== 4) return false
  const [top, left] = pads as [number, number]
  const least = (begin: number, k: number): number => Math.ceil((begin - k + 1) / s)
  const most = (begin: number): number => Math.floor((s - 1 + begin) / s)
  const first = [least(top, kh), least(left, kw)] as const
  const taps = [most(top) - first[0] + 1, most(left) - first[1] + 1] as const
  const source: number[] = []
  for (let a = 0; a < s; a++)
    for (let c = 0; c < s; c++)
      for (let I = 0; I < i; I++)
        for (let O = 0; O < o; O++)
          for (let t = 0; t < taps[0]; t++)
            for (let u = 0; u < taps[1]; u++) {
              const k = a + top - s * (t + first[0])
              const l = c + left - s * (u + first[1])
              source.push(k >= 0 && k < kh && l >= 0 && l < kw ? ((O * i + I) * kh + k) * kw + l : -1)
            }
  const b = layout.graph.before(node)
  const dims: Dims4 = [s * s * i, o, taps[0], taps[1]]
  const kernel = { dims, source: Int32Array.from(source) }
  const weights = blockedWeights(b, { value: node.input(1), dims: w }, kernel, layout)
  const attributes = { kernel_shape: [...taps], pads: [-first[0], -first[1], most(top), most(left)] }
  const phases = b.op('Conv', [dy.value, weights], attributes, { domain: DOMAIN })
  layout.replace(node, together(b, phases, [n, i, h, width], s, layout.block), i)
  return true
}
