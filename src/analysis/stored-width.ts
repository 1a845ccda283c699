/**
 * How many bits of the file hold one weight, whatever form it is stored in: the operand is followed back through the
 * constant part of the graph to the tensors that its elements are made from.
 *
 *   tensor                 bits of its element type
 *   quantiser of floats    width that it rounds to (the latent weights before it are what training needs)
 *   table[index]           the table's, where the index only counts through it (a mask, summed up, says which weights are
 *                          there); those of the tensor that the index is made from, where that tells the entries of a
 *                          smaller table apart (a codebook, the words of a prefix code)
 *   any other operator     its largest input's, times the elements of it that one element of the output takes: a byte
 *                          and-ed with 8 lanes is 1 bit each, a product with b bit planes b bits
 *
 * Masks, scales, shapes and tables next to the elements do not count; `LayerInfo.bytes` has them. The sizes of a decode's
 * inner values are found by running it; where it does not run, an input counts as being as large as the output.
 */
import { MncError } from '../base/errors.ts'
import type { Node, Value } from '../graph/graph.ts'
import type { Model } from '../graph/model.ts'
import { elementCount, elementTypes, isStatic } from '../graph/types.ts'
import { constantDims, constantSource } from '../layers/constants.ts'
import { quantPairOf } from '../layers/quant-pair.ts'
import { constantOf, isQuantize, isQuantizer } from '../ops/facts.ts'
import { findOp } from '../ops/index.ts'

/** Bits per weight, to two decimals, for each operand; a computed value's own type where its elements come from nowhere. */
export async function storedWidths(model: Model, operands: readonly Value[]): Promise<Map<Value, number>> {
  const walk = new Walk(await dimsOf(model, operands.flatMap(decodersOf)))
  return new Map(operands.map((v) => [v, Math.max(1, Number(walk.of(v).toFixed(2)))]))
}

async function dimsOf(model: Model, values: readonly Value[]): Promise<Map<Value, readonly number[]>> {
  try {
    return await constantDims(model, values)
  } catch (error) {
    if (!(error instanceof MncError)) throw error
    return new Map(values.flatMap((v) => (isStatic(v.type?.dims ?? null) ? [[v, v.dims] as const] : [])))
  }
}

/** The values that an operand is made from whose sizes count: all but those that only move elements, or come from a quantiser. */
function decodersOf(operand: Value): Value[] {
  const seen = new Set<Value>()
  const visit = (v: Value): void => {
    if (seen.has(v) || constantOf(v)) return
    seen.add(v)
    const n = v.producer
    if (n && !isQuantizer(n)) for (const x of n.inputs) if (x) visit(x)
    if (n && isQuantizer(n) && !quantPairOf(n)?.quantize) visit(n.input(0))
  }
  visit(operand)
  const plain = [...seen].every((v) => v.producer && (findOp(v.producer)?.carries || isQuantizer(v.producer)))
  return plain ? [] : [...seen]
}

/** Rows of a table whose entries stand for many weights each. */
const CODEBOOK = 256

class Walk {
  /** A decode serves many weights, and its parts are read more than once. */
  readonly #known = new Map<Value, number>()
  readonly #dims: ReadonlyMap<Value, readonly number[]>

  constructor(dims: ReadonlyMap<Value, readonly number[]>) {
    this.#dims = dims
  }

  of(v: Value): number {
    const known = this.#known.get(v)
    if (known !== undefined) return known
    const bits = this.#bitsOf(v)
    this.#known.set(v, bits)
    return bits
  }

  #sizeOf(v: Value): number | null {
    const dims = constantOf(v)?.dims ?? this.#dims.get(v)
    return dims ? elementCount(dims) : null
  }

  /** Whether the inputs are parts put side by side, each stored separately (halves of one byte are stored once). */
  #isJoined(inputs: readonly Value[], to: number): boolean {
    const total = inputs.reduce((n, x) => n + (this.#sizeOf(x) ?? 0), 0)
    if (inputs.length < 2 || total !== to) return false
    const sources = inputs.map((x) => constantSource(x)?.reduce((a, s) => (largerThan(a, s) ? a : s)))
    return new Set(sources).size === inputs.length
  }

  #bitsOf(v: Value): number {
    const tensor = constantOf(v)
    if (tensor) return elementTypes[tensor.type].bits
    const n = v.producer
    const inputs = n?.inputs.filter((x) => x !== null) ?? []
    if (!n || inputs.length === 0) return elementTypes[v.type?.elem ?? 'float32'].bits
    const def = findOp(n)
    if (isQuantizer(n)) return this.#quantised(n)
    if (def?.carries) return this.of(n.input(0))
    const [slot] = def?.weights ?? []
    if (slot?.lookup) return this.#looked(n, n.input(slot.input), v)
    const source = this.#largest(inputs, v)
    const [from, to] = [this.#sizeOf(source), this.#sizeOf(v)]
    if (from === null || to === null) return this.of(source)
    const share = from / to
    // only a sum of products makes one element of many
    if (share > 1 && !slot) return this.of(source)
    return this.of(source) * (share < 1 && this.#isJoined(inputs, to) ? 1 : share)
  }

  #quantised(n: Node): number {
    if (isQuantize(n)) return elementTypes[n.inputs[2]?.constant?.type ?? n.output.type?.elem ?? 'uint8'].bits
    const pair = quantPairOf(n)
    return pair?.quantize ? pair.bits : this.of(n.input(0))
  }

  #looked(n: Node, table: Value, v: Value): number {
    const index = n.inputs.find((x) => x && x !== table) ?? table
    const [entries, all, count] = [this.#sizeOf(table), this.#sizeOf(v), this.#sizeOf(index)]
    const rows = (constantOf(table)?.dims ?? this.#dims.get(table))?.[0]
    if (entries === null || all === null || count === null || rows === undefined) return this.of(table)
    const written = constantOf(table) !== null && rows <= CODEBOOK
    const told = entries < all && (written || this.of(index) >= Math.log2(rows))
    return told ? (this.#storedBits(index) ?? this.of(index) * count) / all : this.of(table)
  }

  /** Of the largest tensor that a computed value is made from; null for what is none. */
  #storedBits(v: Value): number | null {
    const sources = constantSource(v)
    if (!sources || sources.length === 0) return null
    const { type, size } = sources.reduce((a, s) => (largerThan(a, s) ? a : s)).constant!
    return elementTypes[type].bits * size
  }

  /** The input that the elements come from; of equally large ones (a weight and its mask) the widest. */
  #largest(inputs: readonly Value[], v: Value): Value {
    const open = this.#sizeOf(v) ?? Number.POSITIVE_INFINITY
    const sizes = inputs.map((x) => this.#sizeOf(x) ?? open)
    const most = Math.max(...sizes)
    const large = inputs.filter((_, i) => sizes[i] === most)
    return large.reduce((a, x) => (this.of(x) > this.of(a) ? x : a))
  }
}

const largerThan = (a: Value, b: Value): boolean => a.constant!.byteLength > b.constant!.byteLength
