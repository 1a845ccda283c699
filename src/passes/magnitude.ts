/**
 * Magnitude pruning, as pure functions on typed arrays: which weights to keep.
 *
 *   unstructured  the round(sparsity * N) weights of smallest |w| go, N over all layers (global) or each layer's own
 *   n:m           of each m consecutive input channels the n of largest |w| stay, per output channel and position
 *   channel       the output channels of smallest mean |w| go, whole; each layer keeps at least one
 *
 * Counts are exact; ties go by layer order, then index, so the same weights give the same mask everywhere. Selection is
 * linear in the number of weights (two counting passes over the bits of |w|, whose order as unsigned integers is that
 * of the magnitudes). n:m does not apply to layers whose input channels are no multiple of m: they get no mask.
 */
import { usageError } from '../errors.ts'

export type PruneScope = 'global' | 'layer'

export interface PrunableLayer {
  readonly name: string
  readonly weights: Float32Array
  readonly dims: readonly number[]
  readonly inputAxis: number
  readonly outputAxis: number
}

export interface MaskOptions {
  /** Fraction of weights (channels for `channel`) to zero, 0 <= sparsity < 1; n:m ignores it. */
  readonly sparsity: number
  readonly scope?: PruneScope
  /** Share of the m - n channels that n:m takes from each m (rounded); 1 by default. */
  readonly progress?: number
  /** `unstructured` (default), `n:m` such as `2:4`, or `channel`. */
  readonly pattern?: string
  /** Sparsity of single layers by name; they leave the global pool. */
  readonly overrides?: ReadonlyMap<string, number>
}

/** [n, m] of an `n:m` pattern, null for the two named ones; a usage error for anything else. */
export function parsePattern(pattern: string): readonly [number, number] | null {
  if (pattern === 'unstructured' || pattern === 'channel') return null
  const [, n, m] = /^(\d+):(\d+)$/.exec(pattern)?.map(Number) ?? []
  if (n !== undefined && m !== undefined && n >= 1 && n < m && m <= 256) return [n, m]
  throw usageError(`--pattern '${pattern}' is none of unstructured, channel, N:M (such as 2:4, N < M)`)
}

/** Masks (1 keeps, 0 prunes) in each layer's own layout, by layer name. */
export function computeMasks(layers: readonly PrunableLayer[], options: MaskOptions): Map<string, Float32Array> {
  const { sparsity, scope = 'global', pattern = 'unstructured', overrides = new Map(), progress = 1 } = options
  const nm = parsePattern(pattern)
  const masks = new Map<string, Float32Array>()
  if (nm) {
    const [n, m] = nm
    const kept = m - Math.round((m - n) * progress)
    for (const l of layers) if (l.dims[l.inputAxis]! % m === 0) masks.set(l.name, groupMask(l, kept, m))
    return masks
  }
  const mask = pattern === 'channel' ? maskChannels : maskElements
  const pool = scope === 'global' ? layers.filter((l) => !overrides.has(l.name)) : []
  if (pool.length > 0) mask(pool, sparsity, masks)
  for (const l of layers) if (!masks.has(l.name)) mask([l], overrides.get(l.name) ?? sparsity, masks)
  return masks
}

function maskElements(layers: readonly PrunableLayer[], sparsity: number, masks: Map<string, Float32Array>): void {
  const total = layers.reduce((n, l) => n + l.weights.length, 0)
  const kept = keepLargest(
    layers.map((l) => l.weights),
    Math.round(sparsity * total),
  )
  layers.forEach((l, i) => {
    masks.set(l.name, kept[i]!)
  })
}

/** 1 for all but the `count` elements of smallest magnitude, which get 0. NaN counts as largest. */
export function keepLargest(arrays: readonly Float32Array[], count: number): Float32Array[] {
  const high = new Uint32Array(1 << 16)
  const bitsOf = (a: Float32Array): Uint32Array =>
    a.byteOffset % 4 === 0 ? new Uint32Array(a.buffer, a.byteOffset, a.length) : new Uint32Array(a.slice().buffer)
  const bits = arrays.map(bitsOf)
  for (const b of bits) countHigh(b, high)
  const [top, before] = bucketOf(high, count)
  const low = new Uint32Array(1 << 16)
  for (const b of bits) countLow(b, top, low)
  const [bottom, beforeLow] = bucketOf(low, count - before)
  const threshold = ((top << 16) | bottom) >>> 0
  let ties = count - before - beforeLow
  return bits.map((b) => {
    const mask = new Float32Array(b.length)
    for (let i = 0; i < b.length; i++) {
      const magnitude = b[i]! & 0x7fffffff
      if (magnitude > threshold) mask[i] = 1
      else if (magnitude === threshold) {
        if (ties > 0) ties--
        else mask[i] = 1
      }
    }
    return mask
  })
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

function groupMask({ weights, dims, inputAxis }: PrunableLayer, n: number, m: number): Float32Array {
  const mask = new Float32Array(weights.length)
  const channels = dims[inputAxis]!
  const inner = dims.slice(inputAxis + 1).reduce((a, b) => a * b, 1)
  const order = Array.from({ length: m }, (_, k) => k)
  for (let at = 0; at < weights.length; at += channels * inner)
    for (let c = 0; c < channels; c += m)
      for (let i = 0; i < inner; i++) {
        const start = at + c * inner + i
        const magnitude = (k: number): number => Math.abs(weights[start + k * inner]!)
        // among equals the later is pruned last, as in keepLargest
        const ranked = [...order].sort((a, b) => magnitude(b) - magnitude(a) || b - a)
        for (let k = 0; k < n; k++) mask[start + ranked[k]! * inner] = 1
      }
  return mask
}

function maskChannels(layers: readonly PrunableLayer[], sparsity: number, masks: Map<string, Float32Array>): void {
  const all = layers.flatMap((layer, order) =>
    channelMeans(layer).map((mean, channel) => ({ layer, order, channel, mean })),
  )
  const left = new Map(layers.map((l) => [l, l.dims[l.outputAxis]!]))
  let count = Math.round(sparsity * all.length)
  for (const l of layers) masks.set(l.name, new Float32Array(l.weights.length).fill(1))
  all.sort((a, b) => a.mean - b.mean || a.order - b.order || a.channel - b.channel)
  for (const { layer, channel } of all) {
    if (count === 0) break
    const kept = left.get(layer)!
    if (kept === 1) continue
    left.set(layer, kept - 1)
    count--
    zeroChannel(masks.get(layer.name)!, layer, channel)
  }
}

function channelMeans({ weights, dims, outputAxis }: PrunableLayer): number[] {
  const channels = dims[outputAxis]!
  const inner = dims.slice(outputAxis + 1).reduce((a, b) => a * b, 1)
  const sums = new Float64Array(channels)
  for (let i = 0; i < weights.length; i++) sums[Math.floor(i / inner) % channels]! += Math.abs(weights[i]!)
  return Array.from(sums, (s) => (s * channels) / weights.length)
}

function zeroChannel(mask: Float32Array, { dims, outputAxis }: PrunableLayer, channel: number): void {
  const channels = dims[outputAxis]!
  const inner = dims.slice(outputAxis + 1).reduce((a, b) => a * b, 1)
  for (let at = channel * inner; at < mask.length; at += channels * inner) mask.fill(0, at, at + inner)
}
