/**
 * The counting rules as pure functions.
 *
 * Storage: the cheapest of
 *   dense    n * bits
 *   sparse   values in kept blocks * bits + one mask bit per block
 * A block is one element unless the zeros come in larger blocks (4x4, kernels, channels, ...): then kept blocks are
 * stored whole. Blocks are believed where at least 3/4 of the values inside kept ones are non-zero. Unstructured zeros
 * never pass for blocks by chance: where an element mask beats dense storage (sparsity s > 1 / bits), blocks of two
 * would have to save 1/2 mask bit for bits * s * (1 - s) more value bits, which needs s > 0.85, where their density
 * 1 / (1 + s) - sparser still for larger blocks - lies far below 3/4.
 */

export const WORD = 32

/** Fraction of a 32-bit operation that an operation on operands of these widths costs. */
export const weightOf = (...bits: readonly number[]): number => Math.max(...bits) / WORD

/**
 * Additions of n products in a balanced tree, in 32-bit operations: w + a bits wide at the first level, one bit more per
 * level; floor(n / 2) additions per level.
 */
export function adderTree(n: number, weightBits: number, activationBits: number): number {
  let bits = 0
  for (let width = weightBits + activationBits; n > 1; n = Math.ceil(n / 2), width++) bits += Math.floor(n / 2) * width
  return bits / WORD
}

export interface Stored {
  /** Bits of values and mask. */
  readonly bits: number
  readonly maskBits: number
  readonly nonZeros: number
}

const DENSITY = 0.75
/** Zeros of smaller tensors line up by chance, and their masks weigh next to nothing. */
const BLOCKS_FROM = 4096

/** Of output and input channels. */
interface Axes {
  readonly output: number
  readonly input: number
}

/**
 * Storage of a tensor at `bits` per value.
 *
 * @param axes output and input channel axes, along which blocks are sought
 */
export function storedBits(values: ArrayLike<number>, dims: readonly number[], bits: number, axes: Axes): Stored {
  let nonZeros = 0
  for (let i = 0; i < values.length; i++) if (values[i] !== 0) nonZeros++
  const n = values.length
  let best: Stored = { bits: n * bits, maskBits: 0, nonZeros }
  if (nonZeros === n) return best
  const consider = (kept: number, maskBits: number): void => {
    const cost = kept * bits + maskBits
    if (cost < best.bits) best = { bits: cost, maskBits, nonZeros }
  }
  consider(nonZeros, n)
  if (n < BLOCKS_FROM) return best
  // a block that keeps too much, or is too sparse, only gets worse when it grows
  const grows = (kept: number): boolean => kept * bits < best.bits && nonZeros >= DENSITY * kept
  for (const { kept, blocks } of blockings(values, dims, axes, grows))
    if (nonZeros >= DENSITY * kept) consider(kept, blocks)
  return best
}

interface Blocking {
  /** Elements in blocks that are not all zero. */
  readonly kept: number
  readonly blocks: number
}

/**
 * The blockings that pruning makes: o x i channels with o, i >= 2, at each kernel position or over whole kernels;
 * kernels; output channels. Larger ones while `grows` allows.
 */
function* blockings(
  values: ArrayLike<number>,
  dims: readonly number[],
  axes: Axes,
  grows: (kept: number) => boolean,
): Generator<Blocking> {
  const count = (o: number, i: number, whole: boolean): Blocking => countBlocks(values, dims, axes, o, i, whole)
  const inputs = axes.input === axes.output ? 1 : dims[axes.input]!
  if (dims.length > 2) yield count(1, 1, true)
  yield count(1, inputs, true)
  for (const whole of dims.length > 2 ? [false, true] : [false])
    for (const o of powers(dims[axes.output]!)) {
      let any = false
      for (const i of powers(inputs)) {
        const b = count(o, i, whole)
        if (!grows(b.kept)) break
        any = true
        yield b
      }
      if (!any) break
    }
}

/** 2, 4, 8, ... as far as they divide n. */
function powers(n: number): number[] {
  const out: number[] = []
  for (let d = 2; d <= n && n % d === 0; d *= 2) out.push(d)
  return out
}

function countBlocks(
  values: ArrayLike<number>,
  dims: readonly number[],
  axes: Axes,
  o: number,
  i: number,
  whole: boolean,
): Blocking {
  // a block's index: channel axes divided by the block, kernel axes kept or dropped
  const sizes = dims.map((d, k) => (k === axes.output ? d / o : k === axes.input ? d / i : whole ? 1 : d))
  const divide = dims.map((d, k) => (k === axes.output ? o : k === axes.input ? i : whole ? d : 1))
  const blocks = sizes.reduce((a, b) => a * b, 1)
  const used = new Uint8Array(blocks)
  const at = dims.map(() => 0)
  for (let e = 0; e < values.length; e++) {
    if (values[e] !== 0) {
      let index = 0
      for (let k = 0; k < dims.length; k++) index = index * sizes[k]! + Math.floor(at[k]! / divide[k]!)
      used[index] = 1
    }
    for (let k = dims.length - 1; k >= 0 && ++at[k]! === dims[k]!; k--) at[k] = 0
  }
  const kept = used.reduce((sum, u) => sum + u, 0) * (values.length / blocks)
  return { kept, blocks }
}
