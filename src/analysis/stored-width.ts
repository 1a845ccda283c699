/**
 * How many bits of the file hold one weight, whatever form it is stored in: the operand is followed back through the
 * constant part of the graph to the tensors that its elements are made from.
 *
 *   tensor                 bits of its element type
 *   quantiser of floats    width that it rounds to (the latent weights behind it are what training needs)
 *   table[index]           the table's, where the index only counts through it (a mask, summed up, says which weights are
 *                          there); the index's, where that tells the entries of a smaller table apart (a codebook)
 *   any other operator     its largest input's, times the elements that it takes of that for one of its output: a byte
 *                          and-ed with 8 lanes is 1 bit each, a product with b bit planes b bits
 *
 * Masks, scales, shapes and tables beside the elements do not count; `LayerInfo.bytes` has them. Where shapes are not
 * known, an input counts as large as the output.
 */
import type { Node, Value } from '../graph/graph.ts'
import { elementCount, elementTypes, isStatic } from '../graph/types.ts'
import { findOp } from '../ops/index.ts'
import { constantOf } from '../passes/constant-of.ts'
import { quantPairOf } from '../passes/quant-pair.ts'
import { constantSource } from './constants.ts'

/** Bits a weight, to two decimals; a computed value's own type where its elements come from nowhere. */
export function storedWidth(operand: Value): number {
  return Math.max(1, Number(new Walk().of(operand).toFixed(2)))
}

class Walk {
  /** A decode serves many weights, and its parts are read more than once. */
  readonly #known = new Map<Value, number>()

  of(v: Value): number {
    const known = this.#known.get(v)
    if (known !== undefined) return known
    const bits = this.#bitsOf(v)
    this.#known.set(v, bits)
    return bits
  }

  #bitsOf(v: Value): number {
    const tensor = constantOf(v)
    if (tensor) return elementTypes[tensor.type].bits
    const n = v.producer
    const inputs = n?.inputs.filter((x) => x !== null) ?? []
    if (!n || inputs.length === 0) return elementTypes[v.type?.elem ?? 'float32'].bits
    const def = findOp(n)
    if (n.op === 'DequantizeLinear' || n.op === 'QuantizeLinear') return this.#quantised(n)
    if (def?.carries) return this.of(n.input(0))
    const [slot] = def?.weights ?? []
    if (slot?.lookup) return this.#looked(n, n.input(slot.input), v)
    const source = this.#largest(inputs, v)
    const [from, to] = [sizeOf(source), sizeOf(v)]
    if (from === null || to === null) return this.of(source)
    const share = from / to
    // only a sum of products makes one element of many
    if (share > 1 && !slot) return this.of(source)
    return this.of(source) * (share < 1 && isJoined(inputs, to) ? 1 : share)
  }

  #quantised(n: Node): number {
    if (n.op === 'QuantizeLinear')
      return elementTypes[n.inputs[2]?.constant?.type ?? n.output.type?.elem ?? 'uint8'].bits
    const pair = quantPairOf(n)
    return pair?.quantize ? pair.bits : this.of(n.input(0))
  }

  #looked(n: Node, table: Value, v: Value): number {
    const index = n.inputs.find((x) => x && x !== table) ?? table
    const [entries, all, count] = [sizeOf(table), sizeOf(v), sizeOf(index)]
    const rows = table.constant?.dims[0] ?? table.type?.dims?.[0]
    if (entries === null || all === null || count === null || typeof rows !== 'number') return this.of(table)
    const told = entries < all && this.of(index) >= Math.log2(rows)
    return told ? (this.of(index) * count) / all : this.of(table)
  }

  /** The input that the elements come from; of equally large ones (a weight and its mask) the widest. */
  #largest(inputs: readonly Value[], v: Value): Value {
    const open = sizeOf(v) ?? Number.POSITIVE_INFINITY
    const sizes = inputs.map((x) => sizeOf(x) ?? open)
    const most = Math.max(...sizes)
    const large = inputs.filter((_, i) => sizes[i] === most)
    return large.reduce((a, x) => (this.of(x) > this.of(a) ? x : a))
  }
}

/** Whether parts stand beside each other, each stored for itself (halves of one byte are stored once). */
function isJoined(inputs: readonly Value[], to: number): boolean {
  const total = inputs.reduce((n, x) => n + (sizeOf(x) ?? 0), 0)
  if (inputs.length < 2 || total !== to) return false
  const sources = inputs.map((x) => constantSource(x)?.reduce((a, s) => (largerThan(a, s) ? a : s)))
  return new Set(sources).size === inputs.length
}

const largerThan = (a: Value, b: Value): boolean => a.constant!.byteLength > b.constant!.byteLength

function sizeOf(v: Value): number | null {
  const dims = v.constant?.dims ?? constantOf(v)?.dims ?? v.type?.dims ?? null
  return dims && isStatic(dims) ? elementCount(dims) : null
}
