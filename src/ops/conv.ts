/**
 * Conv: y[n,o] = sum_c w[o,c] * x[n,c] (cross-correlation), NC(D)HW.
 *
 * Gradients, for stride s, dilation d, pads p, groups g:
 *   db      = sum over n and positions of dy
 *   dx      = Conv(dy, w transposed over channels and flipped)      stride 1, where the flipped pads are not negative
 *           = ConvTranspose(dy, w)                                  otherwise
 *   dw[k]   = sum over n and positions of dy * (x shifted by k)     for every kernel offset k
 *
 * The weight gradient is one batched MatMul: the operand with fewer channels is copied once per kernel offset and the
 * other is read as it is. For the 3x3 convolutions of a DenseNet (48 in, 12 out), copying dy instead of x moves a quarter
 * of the data. Grouped and non-2-D convolutions take a general form.
 */
import type { Builder } from '../graph/builder.ts'
import type { Node, Value } from '../graph/graph.ts'
import { defineOp, type GradientContext, noCost, unsupportedNode } from './define-op.ts'

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

function geometryOf(node: Node): Geometry {
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

const product = (a: readonly number[]): number => a.reduce((p, d) => p * d, 1)

function gradient({ node, dy, needs, b }: GradientContext): (Value | null)[] {
  const g = dy[0]
  if (!g) return []
  const c = geometryOf(node)
  return [
    needs[0] ? inputGradient(node, g, c, b) : null,
    needs[1] ? weightGradient(node, g, c, b) : null,
    needs[2] ? biasGradient(g, c, b) : null,
  ]
}

const biasGradient = (dy: Value, c: Geometry, b: Builder): Value =>
  b.op('ReduceSum', [dy, b.ints([0, ...c.kernel.map((_, i) => i + 2)])], { keepdims: 0 })

// --- dx --------------------------------------------------------------------------------------------------------

function inputGradient(node: Node, dy: Value, c: Geometry, b: Builder): Value {
  const flippedBegin = c.kernel.map((k, i) => (k - 1) * c.dilation[i]! - c.begin[i]!)
  const flippedEnd = c.kernel.map((_, i) => c.inSize[i]! - c.outSize[i]! + c.begin[i]!)
  const direct =
    c.group === 1 && c.stride.every((s) => s === 1) && [...flippedBegin, ...flippedEnd].every((p) => p >= 0)
  if (direct) {
    const w = flipped(node.input(1), c, b)
    return b.op('Conv', [dy, w], {
      kernel_shape: c.kernel,
      dilations: c.dilation,
      pads: [...flippedBegin, ...flippedEnd],
    })
  }
  // rows that no window reached (floor in the output size) are made by output_padding
  const reached = c.outSize.map((o, i) => (o - 1) * c.stride[i]! + (c.kernel[i]! - 1) * c.dilation[i]! + 1)
  const missing = c.inSize.map((s, i) => s + c.begin[i]! - reached[i]!)
  const endPad = missing.map((m) => Math.max(0, -m))
  const extra = missing.map((m) => Math.max(0, m))
  const output = b.op('ConvTranspose', [dy, node.input(1)], {
    group: c.group,
    kernel_shape: c.kernel,
    strides: c.stride,
    dilations: c.dilation,
    pads: [...c.begin, ...endPad],
    // onnxruntime wants output_padding below the stride; what is left over is zero and padded on afterwards
    output_padding: extra.map((e, i) => Math.min(e, c.stride[i]! - 1)),
  })
  const rest = extra.map((e, i) => e - Math.min(e, c.stride[i]! - 1))
  if (rest.every((r) => r === 0)) return output
  return b.op('Pad', [output, b.ints([0, 0, ...rest.map(() => 0), 0, 0, ...rest])])
}

/** w with input and output channels exchanged and every kernel axis reversed. */
function flipped(w: Value, c: Geometry, b: Builder): Value {
  const rank = c.kernel.length + 2
  const axes = c.kernel.flatMap((k, i) => (k > 1 ? [i + 2] : []))
  const dims = [c.cin, c.cout, ...c.kernel]
  const swapped = b.op(
    'Transpose',
    [w],
    { perm: [1, 0, ...Array.from({ length: rank - 2 }, (_, i) => i + 2)] },
    { type: { elem: 'float32', dims } },
  )
  if (axes.length === 0) return swapped
  const starts = b.ints(axes.map(() => -1))
  const ends = b.ints(axes.map(() => -(2 ** 31)))
  const back = b.ints(axes.map(() => -1))
  return b.op('Slice', [swapped, starts, ends, b.ints(axes), back], {}, { type: { elem: 'float32', dims } })
}

// --- dw --------------------------------------------------------------------------------------------------------

function weightGradient(node: Node, dy: Value, c: Geometry, b: Builder): Value {
  const x = node.input(0)
  const offsets = product(c.kernel)
  if (c.group === 1 && offsets === 1 && [...c.begin, ...c.end].every((p) => p === 0)) {
    const read = c.stride.every((s) => s === 1) ? x : strided(x, c, b)
    return b.op('Reshape', [matmulOverPositions(dy, c.cout, read, c.cin, c, b), b.ints([c.cout, c.cin, ...c.kernel])])
  }
  if (c.group === 1 && c.stride.every((s) => s === 1)) {
    const small = Math.min(c.cin, c.cout)
    // copies made: 2 (kw cin + kh cout) channels against 2 kh kw of the smaller side
    const both = c.kernel.length === 2 ? c.kernel[1]! * c.cin + c.kernel[0]! * c.cout : Number.POSITIVE_INFINITY
    if (both < offsets * small) return byRowsAndColumns(x, dy, c, b)
    if (c.cout < c.cin) return byShiftedOutput(x, dy, c, b)
  }
  return byShiftedInput(x, dy, c, b)
}

const strided = (x: Value, c: Geometry, b: Builder): Value => {
  const axes = c.stride.map((_, i) => i + 2)
  const ends = c.outSize.map((o, i) => (o - 1) * c.stride[i]! + 1)
  return b.op('Slice', [x, b.ints(axes.map(() => 0)), b.ints(ends), b.ints(axes), b.ints(c.stride)])
}

/** sum over n and positions of a[n,i,.] * c[n,j,.] -> [i,j]; both have the output's positions. */
function matmulOverPositions(
  left: Value,
  rows: number,
  right: Value,
  columns: number,
  c: Geometry,
  b: Builder,
  positions = product(c.outSize),
): Value {
  const l = b.op('Reshape', [left, b.ints([c.n, rows, positions])])
  const r = b.op('Reshape', [right, b.ints([c.n, columns, positions])])
  const perImage = b.op('MatMul', [l, b.op('Transpose', [r], { perm: [0, 2, 1] })])
  return b.op('ReduceSum', [perImage, b.ints([0])], { keepdims: 0 })
}

/** Kernel offsets in row-major order. */
function* kernelOffsets(kernel: readonly number[]): Generator<number[]> {
  const total = product(kernel)
  for (let k = 0; k < total; k++) {
    const at: number[] = []
    for (let i = kernel.length - 1, rest = k; i >= 0; i--) {
      at.unshift(rest % kernel[i]!)
      rest = Math.floor(rest / kernel[i]!)
    }
    yield at
  }
}

/** dw[o,c,k] = sum dy[o, p - k*d + begin] x[c, p]: copies dy once per offset, x is read as it is. */
function byShiftedOutput(x: Value, dy: Value, c: Geometry, b: Builder): Value {
  const axes = c.kernel.map((_, i) => i + 2)
  const reach = c.kernel.map((k, i) => (k - 1) * c.dilation[i]!)
  // position q of the padded dy is position q - reach + begin of x at offset 0
  const before = reach.map((r, i) => Math.max(0, r - c.begin[i]!))
  const after = c.inSize.map((s, i) => Math.max(0, s - (c.outSize[i]! - c.begin[i]!)))
  const padded = b.op('Pad', [dy, b.ints([0, 0, ...before, 0, 0, ...after])])
  const shifted: Value[] = []
  for (const at of kernelOffsets(c.kernel)) {
    const starts = at.map((k, i) => before[i]! - k * c.dilation[i]! + c.begin[i]!)
    const ends = starts.map((s, i) => s + c.inSize[i]!)
    shifted.push(b.op('Slice', [padded, b.ints(starts), b.ints(ends), b.ints(axes)]))
  }
  const offsets = shifted.length
  const all = b.op('Concat', shifted, { axis: 1 })
  const sum = matmulOverPositions(all, offsets * c.cout, x, c.cin, c, b, product(c.inSize))
  const split = b.op('Reshape', [sum, b.ints([offsets, c.cout, c.cin])])
  const ordered = b.op('Transpose', [split], { perm: [1, 2, 0] })
  return b.op('Reshape', [ordered, b.ints([c.cout, c.cin, ...c.kernel])])
}

/**
 * Offsets split between the operands: x is copied once per kernel column, dy once per kernel row (moved down by padding),
 * and one MatMul of [kh cout] x [kw cin] rows gives all offsets. For operands of about equal channels.
 */
function byRowsAndColumns(x: Value, dy: Value, c: Geometry, b: Builder): Value {
  const [kh, kw] = c.kernel as readonly [number, number]
  const [dh, dw] = c.dilation as readonly [number, number]
  const [inRows, inColumns] = c.inSize as readonly [number, number]
  const [outRows, outColumns] = c.outSize as readonly [number, number]
  const rows = outRows + (kh - 1) * dh
  const moved = (v: Value, top: number, bottom: number, left: number, right: number): Value =>
    b.op('Pad', [v, b.ints([0, 0, top, left, 0, 0, bottom, right])])
  const columns = Array.from({ length: kw }, (_, k) => {
    const left = c.begin[1]! - k * dw // negative: cropped
    return moved(x, c.begin[0]!, rows - inRows - c.begin[0]!, left, outColumns - inColumns - left)
  })
  const lines = Array.from({ length: kh }, (_, k) => moved(dy, k * dh, (kh - 1 - k) * dh, 0, 0))
  const right = b.op('Concat', columns, { axis: 1 })
  const left = b.op('Concat', lines, { axis: 1 })
  const sum = matmulOverPositions(left, kh * c.cout, right, kw * c.cin, c, b, rows * outColumns)
  const split = b.op('Reshape', [sum, b.ints([kh, c.cout, kw, c.cin])])
  return b.op('Transpose', [split], { perm: [1, 3, 0, 2] })
}

/** The general form: x is padded and copied once per offset. */
export function byShiftedInput(x: Value, dy: Value, c: Geometry, b: Builder): Value {
  const axes = c.kernel.map((_, i) => i + 2)
  const noPads = [...c.begin, ...c.end].every((p) => p === 0)
  const padded = noPads ? x : b.op('Pad', [x, b.ints([0, 0, ...c.begin, 0, 0, ...c.end])])
  const shifted: Value[] = []
  for (const at of kernelOffsets(c.kernel)) {
    const starts = at.map((k, i) => k * c.dilation[i]!)
    const ends = starts.map((s, i) => s + (c.outSize[i]! - 1) * c.stride[i]! + 1)
    shifted.push(b.op('Slice', [padded, b.ints(starts), b.ints(ends), b.ints(axes), b.ints(c.stride)]))
  }
  const offsets = shifted.length
  const all = offsets === 1 ? shifted[0]! : b.op('Concat', shifted, { axis: 1 })
  const perGroupIn = c.cin / c.group
  const perGroupOut = c.cout / c.group
  const positions = product(c.outSize)
  if (c.group === 1) {
    const sum = matmulOverPositions(dy, c.cout, all, offsets * c.cin, c, b)
    const split = b.op('Reshape', [sum, b.ints([c.cout, offsets, c.cin])])
    const ordered = b.op('Transpose', [split], { perm: [0, 2, 1] })
    return b.op('Reshape', [ordered, b.ints([c.cout, c.cin, ...c.kernel])])
  }
  if (perGroupIn === 1 && perGroupOut === 1) {
    // depthwise: no dot products over channels, a product and a sum
    const spread = b.op('Reshape', [all, b.ints([c.n, offsets, c.cin, positions])])
    const weight = b.op('Reshape', [dy, b.ints([c.n, 1, c.cout, positions])])
    const sum = b.op('ReduceSum', [b.op('Mul', [spread, weight]), b.ints([0, 3])], { keepdims: 0 })
    const ordered = b.op('Transpose', [sum], { perm: [1, 0] })
    return b.op('Reshape', [ordered, b.ints([c.cout, 1, ...c.kernel])])
  }
  const spread = b.op('Reshape', [all, b.ints([c.n, offsets, c.group, perGroupIn, positions])])
  const right = b.op('Transpose', [spread], { perm: [0, 2, 4, 3, 1] })
  const flat = b.op('Reshape', [right, b.ints([c.n, c.group, positions, perGroupIn * offsets])])
  const left = b.op('Reshape', [dy, b.ints([c.n, c.group, perGroupOut, positions])])
  const sum = b.op('ReduceSum', [b.op('MatMul', [left, flat]), b.ints([0])], { keepdims: 0 })
  return b.op('Reshape', [sum, b.ints([c.cout, perGroupIn, ...c.kernel])])
}

export const conv = defineOp({
  op: 'Conv',
  since: [1, 11, 22],
  gradient,
  weights: { input: 1, outputAxis: () => 0, inputAxis: () => 1 },
  parameters: [1, 2],
  cost(node) {
    if (node.input(1).dims.length < 3) throw unsupportedNode(node, 'its weight has no kernel axes')
    const w = node.input(1).dims
    const perOutput = product(w.slice(1))
    const outputs = product(node.output.dims)
    const bias = node.inputs[2] ? outputs : 0
    return {
      ...noCost,
      macs: outputs * perOutput,
      mults: outputs * perOutput,
      adds: outputs * (perOutput - 1) + bias,
    }
  },
  samples: [
    {
      name: '3x3 same',
      inputs: [{ dims: [2, 3, 5, 4] }, { dims: [2, 3, 3, 3] }, { dims: [2] }],
      attributes: { kernel_shape: [3, 3], pads: [1, 1, 1, 1] },
    },
    {
      name: '3x2, uneven pads and dilations, about equal channels',
      inputs: [{ dims: [2, 4, 6, 7] }, { dims: [3, 4, 3, 2] }],
      attributes: { pads: [2, 0, 1, 1], dilations: [1, 3] },
    },
    { name: '1x1', inputs: [{ dims: [2, 4, 3, 3] }, { dims: [3, 4, 1, 1] }] },
    { name: '1x1 stride 2', inputs: [{ dims: [2, 4, 5, 4] }, { dims: [3, 4, 1, 1] }], attributes: { strides: [2, 2] } },
    {
      name: '3x3 stride 2, more out than in',
      inputs: [{ dims: [2, 2, 6, 7] }, { dims: [4, 2, 3, 3] }],
      attributes: { strides: [2, 2], pads: [1, 1, 1, 1] },
    },
    {
      name: 'stride 3 leaves a rest',
      inputs: [{ dims: [1, 2, 9, 8] }, { dims: [3, 2, 2, 2] }],
      attributes: { strides: [3, 3] },
    },
    {
      name: 'uneven pads, dilation 2, few outputs',
      inputs: [{ dims: [2, 4, 7, 6] }, { dims: [2, 4, 3, 2] }],
      attributes: { dilations: [2, 2], pads: [1, 0, 2, 1] },
    },
    {
      name: 'pads beyond the kernel',
      inputs: [{ dims: [1, 3, 4, 4] }, { dims: [2, 3, 2, 2] }],
      attributes: { pads: [2, 2, 2, 2] },
    },
    {
      name: 'depthwise',
      inputs: [{ dims: [2, 4, 5, 5] }, { dims: [4, 1, 3, 3] }],
      attributes: { group: 4, pads: [1, 1, 1, 1] },
    },
    {
      name: 'groups of two, stride 2',
      inputs: [{ dims: [2, 4, 6, 6] }, { dims: [6, 2, 3, 3] }, { dims: [6] }],
      attributes: { group: 2, strides: [2, 2], pads: [1, 1, 1, 1] },
    },
    {
      name: 'auto_pad SAME_UPPER',
      inputs: [{ dims: [1, 2, 5, 6] }, { dims: [3, 2, 3, 3] }],
      attributes: { auto_pad: 'SAME_UPPER', strides: [2, 2] },
    },
    { name: '1-D', inputs: [{ dims: [2, 3, 8] }, { dims: [2, 3, 3] }], attributes: { pads: [1, 1] }, opset: 11 },
  ],
})
