/**
 * Narrow convolutions on two rows at once. The AVX-512 VNNI kernels of onnxruntime's QLinearConv reach their speed with 32
 * output channels: with 16 they load more than they multiply (16 -> 16 channels, 3x3, 32x32: 13.2 us per image, 179 MACs
 * per nanosecond; 64 -> 64 channels, 8x8: 5.3 us, 445). So [N, C, H, W] is held as [N, 2C, H/2, W]: two rows lie on one
 * another. A 3x3 convolution then has a 2x3 kernel, 1.33 times the products, and takes 9.6 us:
 *
 *   rows  block j holds rows 2j and 2j + 1
 *   odd   block j holds rows 2j - 1 and 2j, j up to H/2; what lies outside the image is zero
 *
 * The two rows of a block read four, which are two blocks of the other form: convolutions turn one into the other. What
 * they put outside the image is set to zero. Convolutions before and after read and write single rows as they are: the
 * first one with a kernel of four rows and stride 2, one with stride 2 from blocks with stride 1.
 */
import type { Builder } from '../../graph/builder.ts'
import type { Graph, Node, Value } from '../../graph/graph.ts'
import { slidingWindow } from '../../graph/sliding-window.ts'
import { isStatic } from '../../graph/types.ts'
import { dequantizeBehind, isDequantize } from '../../ops/facts.ts'
import type { Pairing } from './held.ts'
import { type Dims, dimsOf, type Step } from './steps.ts'

/** Channels of which twice as many are still one pass of the kernels, or two. */
const NARROW = 16
/** Joining or separating the rows of a value costs about as much as two convolutions gain. */
const CONVOLUTIONS_PER_CONVERSION = 2

/** Where a convolution with group and dilation 1 reads. */
export interface Window {
  readonly kernel: readonly [number, number]
  readonly strides: readonly [number, number]
  /** Top and left, bottom and right. */
  readonly begin: readonly [number, number]
  readonly end: readonly [number, number]
}

/** Of a Conv; null where it has groups or dilations, where its sizes are unknown or its parameters are not constants. */
export function windowOf(conv: Node, typed: Graph): Window | null {
  if (!hasConstants(conv)) return null
  const weights = typed.find(conv.input(1).name)?.type?.dims ?? null
  const [x, y] = [dimsOf(conv.input(0), typed), dimsOf(conv.output, typed)]
  if (!x || !y || !isStatic(weights) || conv.int('group', 1) !== 1) return null
  const size = (d: Dims): number[] => [d.height, d.width]
  const w = slidingWindow(conv, weights.slice(2), size(x), size(y))
  if (w.dilation.some((d) => d !== 1)) return null
  const two = (a: readonly number[]): [number, number] => [a[0]!, a[1]!]
  return { kernel: two(w.kernel), strides: two(w.stride), begin: two(w.begin), end: two(w.end) }
}

/** Whether what repeats for the second row is at hand: scales of the weights, and the bias. */
function hasConstants(conv: Node): boolean {
  const [, weights, bias] = conv.inputs
  const quantised = (v: Value): boolean => dequantizeBehind(v) !== null
  const scaled = ({ producer }: Value): boolean => {
    const scale = producer!.inputs.length === 2 ? producer!.input(1).constant : null
    return scale !== null && (scale.size === 1 || producer!.int('axis', 1) === 0)
  }
  if (!weights || (quantised(weights) && !scaled(weights))) return false
  if (!bias || bias.constant) return true
  return quantised(bias) && scaled(bias) && bias.producer!.input(0).constant !== null
}

/** Of a shortcut, as a convolution. */
export const shortcutWindow = ({ taken }: Step): Window => ({
  ...{ kernel: [1, 1], strides: taken!.strides, begin: [0, 0], end: [0, 0] },
})

/** A step as a convolution of its operand; null if it is not one, or not one with a plain window. */
export function convolutionOf(step: Step, typed: Graph): Window | null {
  if (step.kind === 'shortcut') return shortcutWindow(step)
  return step.kind === 'conv' ? windowOf(step.reader!, typed) : null
}

/** The Conv in floats whose output these steps alone round. */
export function floatConvolution(step: Step, among: ReadonlyMap<Node, Step>): Node | null {
  const node = step.kind === 'float' ? step.source.producer : null
  if (!node?.is('Conv') || step.source.isOutput) return null
  return [...step.source.uses].every((n) => among.has(n)) ? node : null
}

/** The values to hold in pairs of rows, and how. */
export function planRowPairs(steps: ReadonlyMap<Value, Step>, typed: Graph): Map<Value, Pairing> {
  const plan = new Map<Value, Pairing>()
  const links = linksOf(steps, typed)
  const byReader = new Map([...steps.values()].flatMap((s) => (s.reader ? [[s.reader, s] as const] : [])))
  const seen = new Set<Value>()
  for (const start of links.keys()) {
    if (seen.has(start)) continue
    const region = regionOf(start, links)
    if (!region) continue
    for (const v of region.keys()) seen.add(v)
    for (const [v, pairing] of settled(region, { steps, byReader, typed }) ?? []) plan.set(v, pairing)
  }
  return plan
}

interface Link {
  readonly to: Value
  /** A convolution turns the one form into the other. */
  readonly turns: boolean
}

function linksOf(steps: ReadonlyMap<Value, Step>, typed: Graph): Map<Value, Link[]> {
  const links = new Map<Value, Link[]>()
  const byQuantiser = new Map([...steps.values()].map((s) => [s.quantize, s]))
  // of floats that no convolution gives, pairs would have to be made: what reads them makes its own
  const isGiven = (s: Step): boolean => s.kind !== 'float' || floatConvolution(s, byQuantiser) !== null
  for (const step of steps.values()) if (isNarrow(step) && isGiven(step)) links.set(step.value, [])
  for (const step of steps.values())
    for (const operand of step.operands) {
      const from = operand.input(0)
      const [a, b] = [links.get(from), links.get(step.value)]
      if (!a || !b || !keepsRows(step, typed)) continue
      const turns = step.kind === 'conv'
      a.push({ to: step.value, turns })
      b.push({ to: from, turns })
    }
  return links
}

const isNarrow = ({ dims }: Step): boolean => dims.channels <= NARROW && dims.height % 2 === 0 && dims.height >= 4

/** Whether the step gives pairs of rows from pairs of rows. */
export function keepsRows(step: Step, typed: Graph): boolean {
  if (step.kind === 'sum' || step.kind === 'requantised') return true
  if (step.kind !== 'conv') return false
  const w = windowOf(step.reader!, typed)
  return w?.kernel[0] === 3 && w.strides[0] === 1 && w.begin[0] === 1 && w.end[0] === 1
}

/** The values connected with a value, and whether each has the same form; null if that is contradictory. */
function regionOf(start: Value, links: ReadonlyMap<Value, readonly Link[]>): Map<Value, boolean> | null {
  const same = new Map([[start, true]])
  const todo = [start]
  let fits = true
  for (let v = todo.pop(); v; v = todo.pop())
    for (const { to, turns } of links.get(v)!) {
      const form = same.get(v)! !== turns
      if (!same.has(to)) {
        same.set(to, form)
        todo.push(to)
      } else if (same.get(to) !== form) fits = false
    }
  return fits ? same : null
}

interface Network {
  readonly steps: ReadonlyMap<Value, Step>
  readonly byReader: ReadonlyMap<Node, Step>
  readonly typed: Graph
}

/** The forms of a region's values; null if pairs of rows do not pay. */
function settled(region: ReadonlyMap<Value, boolean>, { steps, byReader, typed }: Network): Map<Value, Pairing> | null {
  const members = [...steps.values()].filter((s) => region.has(s.value))
  const byQuantiser = new Map(members.map((s) => [s.quantize, s]))
  /** Values that must not be `odd`: single rows become them, or are read from them. */
  const even = new Set<Value>()
  let convolutions = 0
  let conversions = 0
  for (const s of members) {
    const inside = s.operands.length > 0 && s.operands.every((d) => region.has(d.input(0))) && keepsRows(s, typed)
    if (inside && s.kind === 'conv') convolutions++
    if (!inside) {
      even.add(s.value)
      const conv = floatConvolution(s, byQuantiser)
      if (!(conv ? windowOf(conv, typed) : convolutionOf(s, typed))) conversions++
    }
    const readers = readersOf(s.value, byReader).filter((r) => !r || !region.has(r.value) || !keepsRows(r, typed))
    if (readers.length > 0 || s.value.isOutput) even.add(s.value)
    if (readers.some((r) => !r || !readsPairs(r, typed))) conversions++
  }
  const [first] = even
  if (convolutions < 2 || conversions * CONVOLUTIONS_PER_CONVERSION > convolutions || !first) return null
  const rows = region.get(first)!
  if ([...even].some((v) => region.get(v) !== rows)) return null
  return new Map([...region].map(([v, form]) => [v, form === rows ? 'rows' : 'odd']))
}

/** The steps that read a value, and null for any other reader. */
function readersOf(value: Value, byReader: ReadonlyMap<Node, Step>): (Step | null)[] {
  return [...value.uses].flatMap((d) =>
    isDequantize(d) && !d.output.isOutput ? [...d.output.uses].map((n) => byReader.get(n) ?? null) : [null],
  )
}

/** Whether the step, which gives single rows, can read pairs. */
export const readsPairs = (step: Step, typed: Graph): boolean => (convolutionOf(step, typed)?.strides[0] ?? 1) % 2 === 0

/** A kernel for pairs of rows, and how it moves. */
export interface PairedWindow {
  readonly window: Window
  /** Where the rows of the kernel are among `rows`, for each row of an output block. */
  readonly begins: readonly number[]
  readonly rows: number
  /** Whether two rows of the kernel lie on one another, as those of the input do. */
  readonly split: boolean
}

/**
 * Row r of the output reads rows s r - p + y of the input, y below the height k of the kernel. With r = 2j + o + d (output
 * block j, o = -1 where odd, d = 0, 1) or r = j, and input block b holding rows 2b + i + e (i = -1 where odd, e = 0, 1),
 * it is row t = o - i + d - p + y from the first one of block j (s = 1), or t = y - p - i from that of block j s/2.
 *
 * `height`: of the input and of the output, in rows.
 */
export function pairWindow(w: Window, from: Pairing, to: Pairing, height: readonly [number, number]): PairedWindow {
  const [[kh, kw], [sh, sw]] = [w.kernel, w.strides]
  const [input, output] = height
  const first = to === 'odd' ? -1 : 0
  const blocks = to === 'single' ? output : output / 2 - first
  const make = (rows: number, top: number, stride: number, size: number, begins: number[], split: boolean) => {
    const k = split ? rows / 2 : rows
    // rows at the end that no output reads stay unread
    const bottom = Math.max(0, k + (blocks - 1) * stride - size - top)
    return {
      window: {
        kernel: [k, kw] as const,
        strides: [stride, sw] as const,
        begin: [top, w.begin[1]] as const,
        end: [bottom, w.end[1]] as const,
      },
      ...{ begins, rows, split },
    }
  }
  if (from === 'single') return make(kh + sh, w.begin[0] - sh * first, 2 * sh, input, [0, sh], false)
  const odd = from === 'odd' ? 1 : 0
  const least = first + odd - w.begin[0]
  const top = -Math.floor(least / 2)
  const at = least + 2 * top
  const outputRows = to === 'single' ? 1 : 2
  const blocksRead = Math.ceil((at + outputRows - 1 + kh) / 2)
  const begins = Array.from({ length: outputRows }, (_, d) => at + d)
  return make(2 * blocksRead, top, to === 'single' ? sh / 2 : 1, input / 2 + odd, begins, true)
}

/** The kernel of `dims` [out, in, height, width] for pairs of rows. All of it is folded at load. */
export function pairKernel(b: Builder, weights: Value, dims: readonly number[], p: PairedWindow): Value {
  const [out, into, kh, kw] = dims as [number, number, number, number]
  const moved = p.begins.map((at) => b.op('Pad', [weights, b.ints([0, 0, at, 0, 0, 0, p.rows - at - kh, 0])]))
  const all = moved.length > 1 ? b.op('Concat', moved, { axis: 0 }) : moved[0]!
  if (!p.split) return all
  const outs = out * moved.length
  const halves = b.op('Reshape', [all, b.ints([outs, into, p.rows / 2, 2, kw])])
  const stacked = b.op('Transpose', [halves], { perm: [0, 3, 1, 2, 4] })
  return b.op('Reshape', [stacked, b.ints([outs, 2 * into, p.rows / 2, kw])])
}
