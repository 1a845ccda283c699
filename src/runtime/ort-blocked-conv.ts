/**
 * A rewrite for onnxruntime's CPU provider: convolutions whose weights change between runs go to its blocked (NCHWc)
 * kernels.
 *
 * onnxruntime lays constant weights out in blocks of 16 or 8 channels at load and convolves directly; weights that are
 * inputs, as in a training step, go through im2col and GEMM instead, which takes 1.1 to 1.8 times as long for 3x3
 * kernels of few channels (23 against 14 ms for 48 -> 12 channels, 64 images of 32x32, one thread, reordering included;
 * bench/kernels.ts). The
 * kernels are operators of the engine's own domain `com.microsoft.nchwc`, so the layout can be made in the graph:
 *
 *   W [O,I,h,w] -> pad O and I to the block c -> [O/c,c,I/c,c,h,w] -> transpose -> [O/c,I/c,h,w,c(I),c(O)]
 *   x -> ReorderInput -> Conv -> ReorderOutput
 *
 * Applies to 2-D convolutions of one group with kernels larger than 1x1 and at least 8 channels on either side, the
 * input's a multiple of 4 (ReorderInput refuses others). A graph rewritten so lives in memory only: no file that mnc
 * writes holds these operators.
 */
import type { Builder } from '../graph/builder.ts'
import { Graph, type Node, type Value } from '../graph/graph.ts'
import { Model } from '../graph/model.ts'
import { Tensor } from '../graph/tensor.ts'
import { isStatic } from '../graph/types.ts'
import type { Session } from './executor.ts'

const DOMAIN = 'com.microsoft.nchwc'
const MIN_CHANNELS = 8
/** What ReorderInput wants of the channels. */
const CHANNEL_MULTIPLE = 4

/** Rewrites in place; `block` is the engine's channel block. Returns how many convolutions changed. */
export function blockConvolutions(model: Model, block: number, nodes: Iterable<Node> = model.graph.nodes()): number {
  const made = { weights: new Map<Value, Value>(), inputs: new Map<Value, Value>() }
  let changed = 0
  for (const node of nodes) {
    const dims = blockable(node)
    if (!dims) continue
    rewrite(node, dims, block, made)
    changed++
  }
  if (changed > 0) model.opsets.set(DOMAIN, 1)
  return changed
}

interface Made {
  readonly weights: Map<Value, Value>
  readonly inputs: Map<Value, Value>
}

function rewrite(node: Node, dims: readonly number[], block: number, made: Made): void {
  const { graph, output: y } = node
  const [x, w, bias] = [node.input(0), node.input(1), node.inputs[2]]
  const b = graph.before(node)
  const reordered = made.inputs.get(x) ?? b.op('ReorderInput', [x], {}, { domain: DOMAIN })
  made.inputs.set(x, reordered)
  const blocked = made.weights.get(w) ?? blockedWeights(b, w, dims, block)
  made.weights.set(w, blocked)
  const conv = b.op('Conv', [reordered, blocked], Object.fromEntries(node.attributes), { domain: DOMAIN })
  let out = b.op('ReorderOutput', [conv], { channels: dims[0]! }, { domain: DOMAIN, type: y.type })
  if (bias) out = b.op('Add', [out, b.op('Reshape', [bias, b.ints([dims[0]!, 1, 1])])], {}, { type: y.type })
  graph.replaceUses(y, out)
  graph.remove(node)
}

/** The weight's dims where the rewrite applies. */
function blockable(node: Node): readonly number[] | null {
  if (node.op !== 'Conv' || node.domain !== '' || node.int('group', 1) !== 1) return null
  const w = node.input(1)
  const dims = w.type?.dims ?? null
  if (w.constant || !isStatic(dims) || dims.length !== 4) return null
  const [o, i, kh, kw] = dims as [number, number, number, number]
  const fits = o >= MIN_CHANNELS && i >= MIN_CHANNELS && i % CHANNEL_MULTIPLE === 0
  return kh * kw > 1 && fits ? dims : null
}

function blockedWeights(b: Builder, w: Value, dims: readonly number[], c: number): Value {
  const [o, i, kh, kw] = dims as [number, number, number, number]
  const [po, pi] = [Math.ceil(o / c) * c, Math.ceil(i / c) * c]
  const padded = po === o && pi === i ? w : b.op('Pad', [w, b.ints([0, 0, 0, 0, po - o, pi - i, 0, 0])])
  const split = b.op('Reshape', [padded, b.ints([po / c, c, pi / c, c, kh, kw])])
  const ordered = b.op('Transpose', [split], { perm: [0, 2, 4, 5, 3, 1] })
  return b.op('Reshape', [ordered, b.ints([po, pi, kh, kw])])
}

/**
 * The engine's channel block, found by asking it: a small convolution in each layout against the plain one. 0 where no
 * layout gives the same numbers (then nothing is to be rewritten).
 */
export async function findBlock(load: (model: Model) => Promise<Session>): Promise<number> {
  for (const block of [16, 8]) {
    try {
      const session = await load(probe(block))
      const out = await session.run({ x: ramp([1, 16, 5, 5]), w: ramp([16, 16, 3, 3]) })
      await session.dispose()
      const [plain, blocked] = [out.plain!.view('float32'), out.blocked!.view('float32')]
      if (plain.every((v, i) => Math.abs(v - blocked[i]!) < 1e-4)) return block
    } catch {
      // an engine without these kernels
    }
  }
  return 0
}

function probe(block: number): Model {
  const model = new Model(new Graph('probe'))
  const { graph } = model
  const x = graph.addInput('x', { elem: 'float32', dims: [1, 16, 5, 5] })
  const w = graph.addInput('w', { elem: 'float32', dims: [16, 16, 3, 3] })
  const b = graph.append()
  const attributes = { kernel_shape: [3, 3], pads: [1, 1, 1, 1] }
  graph.addOutput(b.op('Conv', [x, w], attributes, { name: 'plain' }))
  const twin = b.op('Conv', [x, w], attributes)
  graph.addOutput(b.op('Identity', [twin], {}, { name: 'blocked' }))
  blockConvolutions(model, block, [twin.producer!])
  return model
}

/** Small numbers that differ from their neighbours, so that a wrong layout shows. */
function ramp(dims: readonly number[]): Tensor {
  const size = dims.reduce((p, d) => p * d, 1)
  return Tensor.float32(
    dims,
    Float32Array.from({ length: size }, (_, i) => ((i * 7919) % 97) / 97 - 0.5),
  )
}
