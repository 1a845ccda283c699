/**
 * Magnitude pruning: which weights to keep.
 *
 *   unstructured  the round(sparsity * N) weights of smallest |w| go, N over all layers (global) or each layer's own
 *                 adaptive: over all layers those of smallest share  sqrt(n) w^2 / sum v^2,  v the weights of the same output
 *                 channel, of n, that are no smaller. However channels are scaled it is the same, so that a normalisation may be
 *                 folded or not, and of each channel the largest stays until others have gone: LAMP (Lee et al. 2021,
 *                 arXiv:2010.07611) by channel in place of by layer, with the root, which measured best (docs/decisions.md)
 *   n:m           of each m consecutive input channels the n of largest |w| stay, per output channel and position
 *   channel       the output channels of smallest mean |w| go, whole; each layer keeps at least one. Tied channels count by
 *   the mean of all of them; with scope layer, layers that share some are one layer
 *
 * Counts are exact; ties go by layer order, then index, so the same weights give the same mask everywhere. Selection is
 * linear in the number of weights (two counting passes over the bits of |w|, whose order as unsigned integers is that
 * of the magnitudes). What is chosen is a rule that turns weights into their mask, part by part, so that neither has to
 * be in memory. n:m does not apply to layers whose input channels are not a multiple of m: they get no mask.
 */
import { usageError } from '../base/errors.ts'
import { Tensor } from '../graph/tensor.ts'

/** `adaptive-layer`: of a layer with a sparsity of its own, where the others' is `adaptive`. */
export type PruneScope = 'global' | 'layer' | 'adaptive' | 'adaptive-layer'

export interface PrunableLayer {
  readonly weights: Tensor
  readonly inputAxis: number
  readonly outputAxis: number
  /** Numbers of the output channels: those of equal number, in any layers, go together (channel-ties.ts). */
  readonly channels?: readonly number[] | null
}

/** Replaces weights by their mask (1 keeps, 0 prunes); `first` is the index of the first in their layer. */
export type MaskRule = (values: Float32Array, first: number) => void

export interface MaskOptions {
  /** Fraction of weights (channels for `channel`) to zero, 0 <= sparsity < 1; n:m ignores it. */
  readonly sparsity: number
  readonly scope?: PruneScope
  /** Fraction of the m - n channels that n:m removes from each m (rounded); 1 by default. */
  readonly progress?: number
  /** `unstructured` (default), `n:m` such as `2:4`, or `channel`. */
  readonly pattern?: string
  /** Sparsity of single layers; they leave the global pool. */
  readonly overrides?: ReadonlyMap<PrunableLayer, number>
}

/** [n, m] of an `n:m` pattern, null for the two named ones; a usage error for anything else. */
export function parsePattern(pattern: string): readonly [number, number] | null {
  if (pattern === 'unstructured' || pattern === 'channel') return null
  const [, n, m] = /^(\d+):(\d+)$/.exec(pattern)?.map(Number) ?? []
  if (n !== undefined && m !== undefined && n >= 1 && n < m && m <= 256) return [n, m]
  throw usageError(`--pattern '${pattern}' must be unstructured, channel or N:M (such as 2:4, N < M)`)
}

type MaskRules = Map<PrunableLayer, MaskRule>

/** Rules for the masks of layers. (Names would not do as keys: two nodes may have the same.) */
export function maskRules(layers: readonly PrunableLayer[], options: MaskOptions): MaskRules {
  const { sparsity, scope = 'global', pattern = 'unstructured', overrides = new Map(), progress = 1 } = options
  const nm = parsePattern(pattern)
  const rules: MaskRules = new Map()
  if (nm) {
    const [n, m] = nm
    const kept = m - Math.round((m - n) * progress)
    for (const l of layers) if (l.weights.dims[l.inputAxis]! % m === 0) rules.set(l, ruleOfBits(groupMask(l, kept, m)))
    return rules
  }
  const isAdaptive = scope === 'adaptive' || scope === 'adaptive-layer'
  const choose = pattern === 'channel' ? chooseChannels : isAdaptive ? chooseAdaptive : chooseElements
  const pool = scope === 'global' || scope === 'adaptive' ? layers.filter((l) => !overrides.has(l)) : []
  if (pool.length > 0) choose(pool, sparsity, rules)
  const rest = layers.filter((l) => !rules.has(l))
  for (const l of rest) if (overrides.has(l)) choose([l], overrides.get(l)!, rules)
  for (const group of tied(rest.filter((l) => !rules.has(l)))) choose(group, sparsity, rules)
  return rules
}

/** Masks in each layer's own layout. */
export function computeMasks(layers: readonly PrunableLayer[], options: MaskOptions): Map<PrunableLayer, Float32Array> {
  const rules = maskRules(layers, options)
  return new Map([...rules].map(([l, rule]) => [l, l.weights.mapFloats('float32', rule).toFloat32()]))
}

function chooseElements(layers: readonly PrunableLayer[], sparsity: number, rules: MaskRules): void {
  const total = layers.reduce((n, l) => n + l.weights.size, 0)
  const kept = keepLargest(
    layers.map((l) => l.weights),
    Math.round(sparsity * total),
  )
  layers.forEach((l, i) => {
    rules.set(l, kept[i]!)
  })
}

/** The masks are computed at once: what a weight counts for depends on others. */
function chooseAdaptive(layers: readonly PrunableLayer[], sparsity: number, rules: MaskRules): void {
  const scores = layers.map((l) => Tensor.float32(l.weights.dims, channelShares(l)))
  const total = scores.reduce((n, t) => n + t.size, 0)
  const kept = keepLargest(scores, Math.round(sparsity * total))
  layers.forEach((l, i) => {
    const mask = new Uint8Array(Math.ceil(l.weights.size / 8))
    const values = scores[i]!.toFloat32().slice()
    kept[i]!(values, 0)
    for (let k = 0; k < values.length; k++) if (values[k] !== 0) mask[k >>> 3]! |= 1 << (k & 7)
    rules.set(l, ruleOfBits(mask))
  })
}

/** Of each weight; the later of equals counts as larger. */
function channelShares({ weights, outputAxis }: PrunableLayer): Float32Array {
  const values = weights.toFloat32()
  const channels = weights.dims[outputAxis] ?? 1
  const inner = strideOf(weights.dims, outputAxis)
  const own: number[][] = Array.from({ length: channels }, () => [])
  for (let i = 0; i < values.length; i++) own[Math.floor(i / inner) % channels]!.push(i)
  const shares = new Float32Array(values.length)
  for (const of of own) {
    of.sort((a, b) => Math.abs(values[b]!) - Math.abs(values[a]!) || b - a)
    let sum = 0
    for (const i of of) {
      const square = values[i]! ** 2
      sum += square
      shares[i] = square === 0 ? 0 : (square * Math.sqrt(of.length)) / sum
    }
  }
  return shares
}

const bitsOf = (a: Float32Array): Uint32Array => new Uint32Array(a.buffer, a.byteOffset, a.length)

/** Keeps all but the `count` elements of smallest magnitude. NaN counts as largest. */
export function keepLargest(tensors: readonly Tensor[], count: number): MaskRule[] {
  const high = new Uint32Array(1 << 16)
  for (const t of tensors) for (const part of t.parts()) countHigh(bitsOf(part.toFloat32()), high)
  const [top, before] = bucketOf(high, count)
  const low = new Uint32Array(1 << 16)
  for (const t of tensors) for (const part of t.parts()) countLow(bitsOf(part.toFloat32()), top, low)
  const [bottom, beforeLow] = bucketOf(low, count - before)
  const threshold = ((top << 16) | bottom) >>> 0
  let ties = count - before - beforeLow
  return tensors.map((t) => {
    /** Elements at the threshold go before this index and stay from it on. */
    let cut = 0
    if (ties > 0) [cut, ties] = indexOfTie(t, threshold, ties)
    return (values, first) => keepAbove(values, threshold, cut - first)
  })
}

/** The index just past the last of `ties` elements at the threshold, and how many of them are still to come. */
function indexOfTie(t: Tensor, threshold: number, ties: number): [cut: number, left: number] {
  let first = 0
  for (const part of t.parts()) {
    const bits = bitsOf(part.toFloat32())
    for (let i = 0; i < bits.length; i++)
      if ((bits[i]! & 0x7fffffff) === threshold && --ties === 0) return [first + i + 1, 0]
    first += bits.length
  }
  return [t.size, ties]
}

/** The bits of 1 as a float32. */
const ONE = 0x3f800000
/** All bits of a magnitude. */
const LARGEST = 0x7fffffff

/** 1 above the threshold, and at it from index `cut` on; 0 elsewhere. */
function keepAbove(values: Float32Array, threshold: number, cut: number): void {
  // no element has as many below it: all are pruned
  if (threshold > LARGEST) return void values.fill(0)
  const bits = new Int32Array(values.buffer, values.byteOffset, values.length)
  const tied = Math.max(0, Math.min(cut, bits.length))
  keepGreater(bits.subarray(0, tied), threshold)
  keepGreater(bits.subarray(tied), threshold - 1)
}

/** Without a branch, which would be predicted three times out of four: 25 M weights in 18 ms, not 74. */
function keepGreater(bits: Int32Array, threshold: number): void {
  for (let i = 0; i < bits.length; i++) bits[i] = ((threshold - (bits[i]! & LARGEST)) >> 31) & ONE
}

function countHigh(bits: Uint32Array, counts: Uint32Array): void {
  for (let i = 0; i < bits.length; i++) counts[(bits[i]! & 0x7fffffff) >>> 16]!++
}

function countLow(bits: Uint32Array, top: number, counts: Uint32Array): void {
  for (let i = 0; i < bits.length; i++) {
    const magnitude = bits[i]! & 0x7fffffff
    if (magnitude >>> 16 === top) counts[magnitude & 0xffff]!++
  }
}

/** The bucket that holds the element of rank `count`, and how many elements lie in the buckets before it. */
function bucketOf(counts: Uint32Array, count: number): readonly [number, number] {
  let before = 0
  for (let k = 0; k < counts.length; k++) {
    if (before + counts[k]! > count) return [k, before]
    before += counts[k]!
  }
  return [counts.length - 1, before]
}

/** Elements from one index of an axis to the next. */
const strideOf = (dims: readonly number[], axis: number): number => dims.slice(axis + 1).reduce((a, b) => a * b, 1)

/** Bits of the mask, one per element: n:m looks at weights that lie far apart, and is computed in one go. */
function groupMask({ weights, inputAxis }: PrunableLayer, n: number, m: number): Uint8Array {
  const values = weights.toFloat32()
  const mask = new Uint8Array(Math.ceil(values.length / 8))
  const channels = weights.dims[inputAxis]!
  const inner = strideOf(weights.dims, inputAxis)
  const order = Array.from({ length: m }, (_, k) => k)
  for (let at = 0; at < values.length; at += channels * inner)
    for (let c = 0; c < channels; c += m)
      for (let i = 0; i < inner; i++) {
        const start = at + c * inner + i
        const magnitude = (k: number): number => Math.abs(values[start + k * inner]!)
        // among equals the later is pruned last, as in keepLargest
        const ranked = [...order].sort((a, b) => magnitude(b) - magnitude(a) || b - a)
        for (let k = 0; k < n; k++) {
          const kept = start + ranked[k]! * inner
          mask[kept >>> 3]! |= 1 << (kept & 7)
        }
      }
  return mask
}

const ruleOfBits =
  (mask: Uint8Array): MaskRule =>
  (values, first) => {
    for (let i = 0; i < values.length; i++) values[i] = (mask[(first + i) >>> 3]! >> ((first + i) & 7)) & 1
  }

/** Layers that share channel numbers, directly or through others, in one group; all others alone. */
function tied(layers: readonly PrunableLayer[]): readonly (readonly PrunableLayer[])[] {
  let groups: { layers: PrunableLayer[]; numbers: Set<number> }[] = []
  for (const l of layers) {
    const numbers = new Set(l.channels ?? [])
    const near = groups.filter((g) => [...numbers].some((n) => g.numbers.has(n)))
    const all = [...near.flatMap((g) => [...g.numbers]), ...numbers]
    groups = groups.filter((g) => !near.includes(g))
    groups.push({ layers: [...near.flatMap((g) => g.layers), l], numbers: new Set(all) })
  }
  return groups.map((g) => g.layers)
}

interface Unit {
  readonly members: { readonly layer: PrunableLayer; readonly channel: number; readonly mean: number }[]
  readonly order: number
}

/** Channels that go together, with those that go alone, in order of their first. */
function unitsOf(layers: readonly PrunableLayer[]): Unit[] {
  const units = new Map<string, Unit>()
  for (const [i, layer] of layers.entries())
    for (const [channel, mean] of channelMeans(layer).entries()) {
      const number = layer.channels?.[channel]
      const key = number === undefined ? `${i}:${channel}` : String(number)
      const unit = units.get(key) ?? { members: [], order: units.size }
      unit.members.push({ layer, channel, mean })
      units.set(key, unit)
    }
  return [...units.values()]
}

function chooseChannels(layers: readonly PrunableLayer[], sparsity: number, rules: MaskRules): void {
  const meanOf = ({ members }: Unit): number => members.reduce((sum, m) => sum + m.mean, 0) / members.length
  const all = unitsOf(layers).map((u) => ({ ...u, mean: meanOf(u) }))
  const kept = new Map(layers.map((l) => [l, new Uint8Array(l.weights.dims[l.outputAxis]!).fill(1)]))
  const left = new Map(layers.map((l) => [l, l.weights.dims[l.outputAxis]!]))
  let count = Math.round(sparsity * all.reduce((n, u) => n + u.members.length, 0))
  all.sort((a, b) => a.mean - b.mean || a.order - b.order)
  for (const { members } of all) {
    if (members.length > count) continue
    const own = (layer: PrunableLayer): number => members.filter((m) => m.layer === layer).length
    if (members.some(({ layer }) => left.get(layer)! <= own(layer))) continue
    for (const { layer, channel } of members) {
      left.set(layer, left.get(layer)! - 1)
      kept.get(layer)![channel] = 0
    }
    count -= members.length
  }
  for (const [layer, channels] of kept) {
    const inner = strideOf(layer.weights.dims, layer.outputAxis)
    rules.set(layer, (values, first) => {
      for (let i = 0; i < values.length; i++) values[i] = channels[Math.floor((first + i) / inner) % channels.length]!
    })
  }
}

function channelMeans({ weights, outputAxis }: PrunableLayer): number[] {
  const channels = weights.dims[outputAxis]!
  const inner = strideOf(weights.dims, outputAxis)
  const sums = new Float64Array(channels)
  let first = 0
  for (const part of weights.parts()) {
    const values = part.toFloat32()
    for (let i = 0; i < values.length; i++) sums[Math.floor((first + i) / inner) % channels]! += Math.abs(values[i]!)
    first += values.length
  }
  return Array.from(sums, (s) => (s * channels) / weights.size)
}
