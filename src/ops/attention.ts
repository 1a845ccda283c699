/**
 * Attention, RotaryEmbedding and RMSNormalization (opsets 23 and later), differentiated as what they are made of. With
 * heads as an axis of their own, repeated where queries have more of them than keys, s the scale:
 *
 *   A = softmax(softcap(Q K^T s) + mask),  Y = A V         softcap(x) = c tanh(x / c)
 *
 * Keys and values of the past stand before the present ones; a causal mask lets position i see up to i + past. Does not
 * apply to nonpad_kv_seqlen (opset 24).
 */
import type { Builder } from '../graph/builder.ts'
import type { Node, Value } from '../graph/graph.ts'
import { Tensor } from '../graph/tensor.ts'
import { defineOp, noCost, type OpDef, outputSize, unsupportedNode } from './support/define-op.ts'
import { product, range, typed } from './support/emit.ts'
import { substitute } from './support/rewrite.ts'
import { axisFromFront, elemOf } from './support/rules.ts'

const reshape = (b: Builder, v: Value, dims: readonly number[]): Value =>
  typed(b.op('Reshape', [v, b.ints(dims)]), dims, elemOf(v))

/** [B, heads, S, E] of an operand that may come as [B, S, heads * E]. */
function withHeads(b: Builder, v: Value, heads: number): Value {
  if (v.dims.length === 4) return v
  const [batch, length, width] = v.dims as [number, number, number]
  const split = reshape(b, v, [batch, length, heads, width / heads])
  return typed(b.op('Transpose', [split], { perm: [0, 2, 1, 3] }), [batch, heads, length, width / heads], elemOf(v))
}

/** Each head `times` over, copies next to each other. */
function repeatHeads(b: Builder, v: Value, times: number): Value {
  if (times === 1) return v
  const [batch, heads, length, width] = v.dims as [number, number, number, number]
  const open = reshape(b, v, [batch, heads, 1, length, width])
  const wide = b.op('Expand', [open, b.ints([batch, heads, times, length, width])])
  return reshape(b, wide, [batch, heads * times, length, width])
}

function withPast(b: Builder, past: Value | null | undefined, v: Value): Value {
  if (!past) return v
  const dims = v.dims.map((d, i) => (i === 2 ? d + past.dims[2]! : d))
  return typed(b.op('Concat', [past, v], { axis: 2 }), dims, elemOf(v))
}

/** 0 where position i may look at j, -infinity elsewhere. */
function causalMask(b: Builder, queries: number, keys: number, past: number, v: Value): Value {
  const values = Float32Array.from({ length: queries * keys }, (_, k) =>
    k % keys <= Math.floor(k / keys) + past ? 0 : Number.NEGATIVE_INFINITY,
  )
  return b.initializer('causal', Tensor.from(elemOf(v), [queries, keys], values))
}

/** A mask to add: a boolean one bars where it is false; a short one bars what it does not reach. */
function additive(b: Builder, mask: Value, keys: number, like: Value): Value {
  const elem = elemOf(like)
  const barred = b.scalar(Number.NEGATIVE_INFINITY, elem)
  const sum = elemOf(mask) === 'bool' ? b.op('Where', [mask, b.scalar(0, elem), barred]) : mask
  const missing = keys - mask.dims.at(-1)!
  if (missing <= 0 || mask.dims.at(-1) === 1) return sum
  const pads = b.ints([
    ...mask.dims.map(() => 0),
    ...mask.dims.map((_, i) => (i === mask.dims.length - 1 ? missing : 0)),
  ])
  return b.op('Pad', [sum, pads, barred])
}

function decomposeAttention(node: Node): void {
  if (node.inputs[6]) throw unsupportedNode(node, 'no gradient: keys of different lengths (nonpad_kv_seqlen)')
  const b = node.graph.before(node)
  const [q0, k0, v0] = [node.input(0), node.input(1), node.input(2)]
  const flat = q0.dims.length === 3
  const queryHeads = flat ? node.int('q_num_heads', 1) : q0.dims[1]!
  const keyHeads = flat ? node.int('kv_num_heads', 1) : k0.dims[1]!
  const q = withHeads(b, q0, queryHeads)
  const k = withPast(b, node.inputs[4], withHeads(b, k0, keyHeads))
  const v = withPast(b, node.inputs[5], withHeads(b, v0, keyHeads))
  const [batch, , queries, width] = q.dims as [number, number, number, number]
  const keys = k.dims[2]!
  const elem = elemOf(q)
  const times = queryHeads / keyHeads
  const [kAll, vAll] = [repeatHeads(b, k, times), repeatHeads(b, v, times)]
  const turned = b.op('Transpose', [kAll], { perm: [0, 1, 3, 2] })
  const scale = node.float('scale', 1 / Math.sqrt(width))
  const seen: Value[] = [b.op('Mul', [b.op('MatMul', [q, turned]), b.scalar(scale, elem)])]
  let x = seen[0]!
  const cap = node.float('softcap', 0)
  if (cap > 0) x = b.op('Mul', [b.op('Tanh', [b.op('Div', [x, b.scalar(cap, elem)])]), b.scalar(cap, elem)])
  const capped = x
  const mask = node.inputs[3]
  if (mask) x = b.op('Add', [x, additive(b, mask, keys, q)])
  const past = node.inputs[4]?.dims[2] ?? 0
  if (node.int('is_causal', 0) === 1) x = b.op('Add', [x, causalMask(b, queries, keys, past, q)])
  seen.push(capped, x)
  const weights = b.op('Softmax', [x], { axis: -1 })
  seen.push(weights)
  const y = b.op('MatMul', [weights, vAll])
  const size = [batch, queries, queryHeads * v.dims[3]!]
  const result = flat ? reshape(b, b.op('Transpose', [y], { perm: [0, 2, 1, 3] }), size) : y
  const own = (value: Value): Value => b.op('Identity', [value])
  const made = [() => result, () => own(k), () => own(v), () => own(seen[node.int('qk_matmul_output_mode', 0)]!)]
  substitute(
    node,
    node.outputs.map((out, i) => (out?.isUsed ? made[i]!() : null)),
  )
}

/** The two products and a softmax; grouped heads are computed once per query head. */
function attentionCost(node: Node) {
  const [q, k] = [node.input(0).dims, node.input(1).dims]
  const queries = product(q) / (q.at(-1) ?? 1)
  const keys = (k.length === 3 ? k[1]! : k[2]!) + (node.inputs[4]?.dims[2] ?? 0)
  const macs = 2 * queries * keys * (q.at(-1) ?? 1)
  return { ...noCost, macs, mults: macs + queries * keys, adds: macs + queries * keys }
}

/** y = x cos - partner sin, partner' = x sin + partner cos, over the first `rotary_embedding_dim` elements of each head. */
function decomposeRotary(node: Node): void {
  const b = node.graph.before(node)
  const x0 = node.input(0)
  const flat = x0.dims.length === 3
  const heads = flat ? node.int('num_heads', 1) : x0.dims[1]!
  // [B, S, heads, E]
  const [batch, length] = flat ? [x0.dims[0]!, x0.dims[1]!] : [x0.dims[0]!, x0.dims[2]!]
  const width = flat ? x0.dims[2]! / heads : x0.dims[3]!
  const x = flat ? reshape(b, x0, [batch, length, heads, width]) : b.op('Transpose', [x0], { perm: [0, 2, 1, 3] })
  const turned = node.int('rotary_embedding_dim', 0) || width
  const half = turned / 2
  const [rotated, rest] =
    turned === width ? [x, null] : b.ops('Split', [x, b.ints([turned, width - turned])], 2, { axis: 3 })
  const ids = node.inputs[3]
  const cache = (i: number): Value => {
    const rows = ids ? b.op('Gather', [node.input(i), ids]) : node.input(i)
    return reshape(b, rows, [batch, length, 1, half])
  }
  const [cos, sin] = [cache(1), cache(2)]
  const interleaved = node.int('interleaved', 0) === 1
  const pairs = interleaved
    ? b
        .ops('Split', [reshape(b, rotated!, [batch, length, heads, half, 2]), b.ints([1, 1])], 2, { axis: 4 })
        .map((p) => reshape(b, p, [batch, length, heads, half]))
    : b.ops('Split', [rotated!, b.ints([half, half])], 2, { axis: 3 })
  const mul = (p: Value, c: Value): Value => b.op('Mul', [p, c])
  const first = b.op('Sub', [mul(pairs[0]!, cos), mul(pairs[1]!, sin)])
  const second = b.op('Add', [mul(pairs[0]!, sin), mul(pairs[1]!, cos)])
  const column = [batch, length, heads, half, 1]
  const joined = interleaved
    ? reshape(b, b.op('Concat', [reshape(b, first, column), reshape(b, second, column)], { axis: 4 }), [
        ...[batch, length, heads],
        turned,
      ])
    : b.op('Concat', [first, second], { axis: 3 })
  const whole = rest ? b.op('Concat', [joined, rest], { axis: 3 }) : joined
  substitute(node, [flat ? reshape(b, whole, x0.dims) : b.op('Transpose', [whole], { perm: [0, 2, 1, 3] })])
}

/** Y = X / sqrt(mean(X^2) + epsilon) * scale over the axes from `axis` on. */
function decomposeRms(node: Node): void {
  const b = node.graph.before(node)
  const x = node.input(0)
  const axes = range(x.dims.length).slice(axisFromFront(node.int('axis', -1), x.dims.length))
  const mean = b.op('ReduceMean', [b.op('Mul', [x, x]), b.ints(axes)], { keepdims: 1 })
  const root = b.op('Sqrt', [b.op('Add', [mean, b.scalar(node.float('epsilon', 1e-5), elemOf(x))])])
  substitute(node, [b.op('Mul', [b.op('Div', [x, root]), node.input(1)])])
}

const opset = 23
const half = { dims: [2, 3, 2], range: [-1, 1] as const }

export const attention: readonly OpDef[] = [
  defineOp({
    op: 'Attention',
    since: [23, 24, 25],
    gradient: 'decompose',
    decompose: decomposeAttention,
    cost: attentionCost,
    samples: [
      {
        name: 'heads as an axis',
        opset,
        inputs: [{ dims: [2, 2, 3, 4] }, { dims: [2, 2, 5, 4] }, { dims: [2, 2, 5, 3] }],
      },
      {
        name: 'three axes, grouped, causal, capped, with a mask',
        opset,
        inputs: [{ dims: [2, 3, 16] }, { dims: [2, 3, 8] }, { dims: [2, 3, 8] }, { dims: [3, 3] }],
        attributes: { q_num_heads: 4, kv_num_heads: 2, is_causal: 1, softcap: 0.8 },
      },
      {
        name: 'past, scale, all outputs',
        opset,
        inputs: [
          ...[{ dims: [1, 2, 3, 4] }, { dims: [1, 2, 2, 4] }, { dims: [1, 2, 2, 4] }, null],
          ...[{ dims: [1, 2, 4, 4] }, { dims: [1, 2, 4, 4] }],
        ],
        attributes: { scale: 0.3, qk_matmul_output_mode: 3 },
        outputs: 4,
      },
    ],
  }),
  defineOp({
    op: 'RotaryEmbedding',
    since: [23],
    gradient: 'decompose',
    decompose: decomposeRotary,
    cost: (node) => ({ ...noCost, mults: 2 * outputSize(node), adds: outputSize(node) }),
    samples: [
      { name: 'halves', opset, inputs: [{ dims: [2, 2, 3, 4] }, half, half] },
      {
        name: 'interleaved part, positions',
        opset,
        inputs: [
          ...[{ dims: [2, 3, 12] }, { dims: [8, 2] }, { dims: [8, 2] }],
          { dims: [2, 3], type: 'int64', values: [0, 1, 2, 5, 6, 7] },
        ],
        attributes: { num_heads: 2, interleaved: 1, rotary_embedding_dim: 4 },
      },
    ],
  }),
  defineOp({
    op: 'RMSNormalization',
    scaledBy: (_, rank) => ({ axis: rank - 1, inputs: [1] }),
    since: [23],
    gradient: 'decompose',
    decompose: decomposeRms,
    parameters: [1],
    cost: (node) => ({ ...noCost, mults: 3 * outputSize(node), adds: outputSize(node) }),
    samples: [
      { name: 'last axis', opset, inputs: [{ dims: [2, 3, 4] }, { dims: [4] }] },
      { name: 'two axes', opset, inputs: [{ dims: [2, 3, 4] }, { dims: [3, 4] }], attributes: { axis: 1 } },
    ],
  }),
]
