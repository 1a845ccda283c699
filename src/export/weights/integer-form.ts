/**
 * The integers of int8 layers between quantisers: multiplier, bias and scale of each output channel (integer-bias.ts), taken
 * into the weight and written.
 *
 * An integer kernel adds up products and bias in 32 bits. Where a channel's bias is so many multiples of scale(x) scale(w)
 * that they do not fit (its weights are tiny, or all but zero), its scale is made larger until they do:
 *
 *   s' = s f,  w' = round(w / f),  f = (|bias| / (scale(x) s) + sum|w| max|x|) / 2^30
 *
 * which moves the sum by less than its own bias times 1e-9 per weight. Does not apply to layers with float outputs, whose
 * bias is added after them.
 */
import type { Node } from '../../graph/graph.ts'
import { Tensor } from '../../graph/tensor.ts'
import { biasFactor, biasOf, readersBehindRectifier, setBias } from '../../ops/facts.ts'
import { roundHalfEven } from '../../quant/quantizer.ts'
import type { Layer } from './fold-affine.ts'
import { channelForm, LARGEST_SUM } from './integer-bias.ts'
import { inputStep, levelsOf, quantisedBehind, spanOf } from './layer-form.ts'
import type { Weight } from './weights.ts'

/** A layer for which the file may now and then give another level than the graph. */
export interface Inexact {
  /** The weight of the layer, or the layer itself where it has none. */
  readonly layer: Weight | string
  readonly reason: string
}

/** The axis by whose channels the layer's integers are chosen; null where they are not, and its bias stays float. */
export function integerAxis(w: Weight, layers: ReadonlyMap<Node, Layer>): number | null {
  const node = w.reader
  const axis = (node && layers.get(node)?.outputAxis) ?? null
  return node && axis !== null && w.canScaleAlong(axis) && outputQuantisers(node) ? axis : null
}

/**
 * Chooses multipliers and bias of a layer by channel, writes the bias, divides the scale; returns the multipliers, in
 * dims that broadcast over the weight.
 */
export function takeForm(w: Weight, layers: ReadonlyMap<Node, Layer>, inexact: Inexact[]): Tensor {
  const axis = integerAxis(w, layers)
  if (axis === null) return Tensor.scalar(1)
  const node = w.reader!
  const channels = w.dims[axis]!
  w.multiply(new Float64Array(channels).fill(1), axis)
  const bias = addedBias(node)
  const biasAt = (c: number): number => bias?.[bias.length === 1 ? 0 : c] ?? 0
  const step = inputStep(node)!
  const span = Math.max(...spanOf(node.input(0).producer!))
  const behind = outputQuantisers(node)!
  const finest = Math.min(...behind.map((q) => q.step))
  const widened = fitBiases(w, axis, (c) => Math.abs(biasAt(c)) / step, span)
  const { largest, sum } = sizesOf(w, axis)
  // the sign goes into the integers (-8 becomes 8, which 8 bits hold), except for channels with -128, whose scale stays negative
  const mirror = w.scale.map((s, c) => (s < 0 && largest[c] === 128 ? -1 : 1))
  const sign = w.scale.map((s, c) => Math.sign(s) * mirror[c]!)
  // a gain of 0 leaves integers of 0 and the bias: any scale that is fine enough for the bias
  const fine = finest / (1024 * step)
  const sizeOf = (s: number, c: number): number =>
    Math.abs(s) || Math.max(fine, Math.abs(biasAt(c)) / (step * LARGEST_SUM))
  const forms = Array.from(w.scale, (s, c) => {
    const u = step * sizeOf(s, c)
    return channelForm({
      largest: s === 0 ? 0 : largest[c]!,
      reach: s === 0 ? 0 : sum[c]! * span,
      bias: biasAt(c) / u,
      step: finest / u,
      readers: behind.map((q) => ({ ratio: q.step / finest, lo: q.range[0], hi: q.range[1] })),
    })
  })
  const reason = whyInexact(forms.filter((f) => !f.exact).length, widened, channels, behind)
  if (reason) inexact.push({ layer: w, reason })
  w.scale = w.scale.map((_, c) => (mirror[c]! * finest) / (step * forms[c]!.step * forms[c]!.multiplier))
  const biases = forms.map((f, c) => mirror[c]! * f.bias)
  if (bias) writeBias(node, biases, w.scale, step)
  const values = forms.map((f, c) => f.multiplier * sign[c]!)
  return Tensor.float32(w.broadcastDims, values)
}

function whyInexact(
  open: number,
  widened: number,
  channels: number,
  behind: readonly OutputQuantiser[],
): string | null {
  const of = (n: number): string => `${n} of ${channels} channels`
  const levels = behind.map(({ range: [lo, hi] }) => hi - lo + 1).join(' and ')
  const reasons = [
    ...(widened > 0 ? [`${of(widened)} have a bias that exceeds 32 bits at their scale, which was enlarged`] : []),
    ...(open > 0 ? [`${of(open)} have no integer bias that keeps all ${levels} levels exact`] : []),
  ]
  return reasons.length > 0 ? reasons.join('; ') : null
}

/** Largest and summed |integer| of each channel. */
function sizesOf(w: Weight, axis: number): { largest: Float64Array; sum: Float64Array } {
  const [largest, sum] = [new Float64Array(w.dims[axis]!), new Float64Array(w.dims[axis]!)]
  const channelOf = channelsAlong(w, axis)
  w.ints!.forEach((v, i) => {
    const c = channelOf(i)
    largest[c] = Math.max(largest[c]!, Math.abs(v))
    sum[c]! += Math.abs(v)
  })
  return { largest, sum }
}

function channelsAlong({ dims }: Weight, axis: number): (i: number) => number {
  const inner = dims.slice(axis + 1).reduce((a, d) => a * d, 1)
  return (i) => Math.floor(i / inner) % dims[axis]!
}

/**
 * Makes the scales of channels larger whose sums would leave 32 bits; returns their number. `biasOver`: |bias| / scale(x).
 */
function fitBiases(w: Weight, axis: number, biasOver: (c: number) => number, span: number): number {
  const { sum } = sizesOf(w, axis)
  const factors = Array.from(w.scale, (s, c) =>
    s === 0 ? 1 : (biasOver(c) / Math.abs(s) + sum[c]! * span) / LARGEST_SUM,
  )
  const widened = factors.filter((f) => f > 1).length
  if (widened === 0) return 0
  const channelOf = channelsAlong(w, axis)
  const ints = w.ints!
  ints.forEach((v, i) => {
    const f = factors[channelOf(i)]!
    if (f > 1) ints[i] = roundHalfEven(v / f)
  })
  w.scale = w.scale.map((s, c) => s * Math.max(1, factors[c]!))
  return widened
}

/** The bias as numbers; null where there is none, or one that no integer kernel adds. */
function addedBias(node: Node): Float32Array | null {
  return biasFactor(node) === 1 ? (biasOf(node)?.constant?.toFloat32() ?? null) : null
}

function writeBias(node: Node, biases: readonly number[], weightScale: Float32Array, step: number): void {
  const b = node.graph.before(node)
  const old = biasOf(node)!
  const { name } = old
  const scale = weightScale.map((s) => s * step)
  const stored = b.initializer(`${name}.q`, Tensor.from('int32', [biases.length], biases))
  const steps = b.initializer(`${name}.s`, Tensor.float32([scale.length], scale))
  setBias(node, b.op('DequantizeLinear', [stored, steps], { axis: 0 }, { name: `${name}.d` }))
  if (!old.isUsed && old.constant) node.graph.removeInitializer(old)
}

interface OutputQuantiser {
  readonly step: number
  readonly range: readonly [number, number]
}

/** Scale and levels of the quantisers that read the layer, each pair once; null where anything else reads it too. */
function outputQuantisers(node: Node): OutputQuantiser[] | null {
  if (quantisedBehind(node) !== 'all') return null
  const found = new Map<string, OutputQuantiser>()
  for (const q of readersBehindRectifier(node.output)) {
    const scale = q.input(1).constant
    if (scale?.size !== 1) return null
    const quantiser = { step: scale.toNumbers()[0]!, range: levelsOf(q) }
    found.set(JSON.stringify(quantiser), quantiser)
  }
  return [...found.values()]
}
