/**
 * Weights of the weight-only format: products of matrices become onnxruntime's MatMulNBits, which reads integers of 2, 4
 * or 8 bits and a scale for each block of an output channel, and takes inputs in floats:
 *
 *   y = x dequantised(B)' [+ bias]       B [N, ceil(K / block), block * bits / 8], bits from the low end of each byte on
 *
 * Groups of `quantize --weight-group` are its blocks; a scale for a channel is repeated for blocks of 128. 3 bits are stored in
 * 4, 5 to 7 in 8: onnxruntime 1.30 refuses others. `accuracy_level` is 1; with 4 (`roundInputs`) the kernel rounds inputs to
 * 8 bits in blocks, 0.3 to 1 % of the largest output, and multiplies integers. What looks rows up, and layers that transpose their input, keep the decode of dense weights.
 */
import type { Node } from '../../graph/graph.ts'
import type { Model } from '../../graph/model.ts'
import { Tensor } from '../../graph/tensor.ts'
import { scaleIndices } from '../../layers/scale-layout.ts'
import { biasFactor, biasOf, productFactor } from '../../ops/facts.ts'
import { channelSlot } from '../../ops/index.ts'
import { emitWeights } from './decode.ts'
import { attach } from './dense.ts'
import { type Choice, planStorage } from './storage.ts'
import type { Weight } from './weights.ts'

const NBITS_DOMAIN = 'com.microsoft'
/** In floats, as the graph computes. */
const ACCURACY = { floats: 1, bytes: 4 } as const
const [LEAST_BLOCK, MOST_BLOCK] = [16, 128]
const WIDTHS = [2, 4, 8]

interface Product {
  readonly node: Node
  /** Axes of the weight that count inputs and outputs. */
  readonly input: number
  readonly output: number
}

export function writeWeightOnly(model: Model, weights: readonly Weight[], roundInputs: boolean): Choice[] {
  const { graph } = model
  const products = new Map(weights.flatMap((w) => [[w, productsOf(w)] as const]))
  const others = planStorage(
    weights.filter((w) => products.get(w) === null),
    { sparse: false },
  )
  for (const [w, v] of emitWeights(graph.prepend(), others)) attach(graph, w, v)
  const own = weights.flatMap((w): Choice[] => {
    const readers = products.get(w)
    if (!readers) return []
    const packed = pack(w, readers[0]!, roundInputs ? ACCURACY.bytes : ACCURACY.floats)
    const stored = graph.addInitializer('_q', packed.integers)
    for (const p of readers) replace(p, packed, stored)
    graph.removeInput(w.value)
    model.opsets.set(NBITS_DOMAIN, 1)
    return [{ weight: w, kind: 'nbits', payload: packed.integers.byteLength }]
  })
  return [...others.choices, ...own]
}

/** The layers that read the weight, if all are products that the kernel computes, of one orientation; null otherwise. */
function productsOf(w: Weight): Product[] | null {
  if (!w.ints || w.dims.length !== 2 || w.value.isOutput) return null
  const found = [...w.value.uses].map((node): Product | null => {
    const slot = channelSlot(node)
    if (!slot || slot.channels === 'window' || node.inputs[slot.input] !== w.value || slot.transposesData?.(node))
      return null
    const [input, output] = [slot.inputAxis(node), slot.outputAxis(node)]
    const along = w.block > 0 ? input : output
    return w.axis === null || w.axis === along ? { node, input, output } : null
  })
  const known = found.flatMap((p) => p ?? [])
  const alike = known.every((p) => p.input === known[0]!.input)
  return known.length > 0 && known.length === found.length && alike ? known : null
}

interface Packed {
  readonly integers: Tensor
  readonly scales: Float32Array
  readonly attributes: Readonly<Record<string, number>>
}

function pack(w: Weight, { input, output }: Product, accuracy: number): Packed {
  const [K, N] = [w.dims[input]!, w.dims[output]!]
  const bits = WIDTHS.find((b) => b >= w.bits)!
  const block = w.block > 0 ? w.block : Math.min(MOST_BLOCK, Math.max(LEAST_BLOCK, 2 ** Math.ceil(Math.log2(K))))
  const blocks = Math.ceil(K / block)
  const bytes = (block * bits) / 8
  const integers = new Uint8Array(N * blocks * bytes)
  const scales = new Float32Array(N * blocks)
  const scaleOf = scaleIndices(w.dims, w)
  const zero = 2 ** (bits - 1)
  for (let n = 0; n < N; n++)
    for (let k = 0; k < K; k++) {
      const at = input === 0 ? k * N + n : n * K + k
      const place = n * blocks + Math.floor(k / block)
      const bit = (k % block) * bits
      integers[place * bytes + (bit >> 3)]! |= (w.ints![at]! + zero) << (bit & 7)
      scales[place] = w.scale[scaleOf[at]!]!
    }
  return {
    integers: Tensor.of('uint8', [N, blocks, bytes], integers),
    scales,
    attributes: { K, N, bits, block_size: block, accuracy_level: accuracy },
  }
}

/** The output keeps its name; a bias is added behind. */
function replace({ node }: Product, { integers, scales, attributes }: Packed, stored: Node['outputs'][number]): void {
  const { graph } = node
  const b = graph.before(node)
  const by = productFactor(node)
  const scale = b.initializer(
    '_s',
    Tensor.float32(integers.dims.slice(0, 2), by === 1 ? scales : scales.map((s) => s * by)),
  )
  const { name, type } = node.output
  const data = node.input(channelSlot(node)!.data!)
  let y = b.op('MatMulNBits', [data, stored!, scale], attributes, { domain: NBITS_DOMAIN, name: '_p', type })
  const bias = biasOf(node)
  const beta = biasFactor(node)
  if (bias && beta !== 0) {
    const added = beta === 1 ? bias : b.op('Mul', [bias, b.scalar(beta)])
    y = b.op('Add', [y, added], {}, { name: '_b', type })
  }
  graph.replaceUses(node.output, y)
  graph.remove(node)
  if (!graph.find(name)) graph.rename(y, name)
}
