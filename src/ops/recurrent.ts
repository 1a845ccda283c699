/**
 * RNN, GRU and LSTM, differentiated as the steps that they consist of: one product with all inputs, then for each step a
 * product with the state and the gates. H the state, X_t the input of step t, W, R, b weights (onnx docs/Operators.md):
 *
 *   RNN   H' = f(X W^T + H R^T + b)
 *   GRU   z = f(X Wz^T + H Rz^T + bz)   r = f(X Wr^T + H Rr^T + br)
 *         h = g(X Wh^T + (r H) Rh^T + bh)       or, linear_before_reset, g(X Wh^T + wbh + r (H Rh^T + rbh))
 *         H' = (1 - z) h + z H
 *   LSTM  i, o, f, c = X W^T + H R^T + b (+ P C: peepholes)   C' = f(f) C + f(i) g(c)   H' = f(o) h(C')
 *
 * Does not apply to lengths that differ between sequences, to more than MAX_STEPS or an open number of steps, and to layout
 * 1 (which onnxruntime 1.30 does not run either).
 */
import { type AttributeLike, float } from '../graph/attribute.ts'
import type { Builder } from '../graph/builder.ts'
import type { Node, Value } from '../graph/graph.ts'
import { Tensor } from '../graph/tensor.ts'
import { constantOf } from './support/constant-of.ts'
import {
  type Cost,
  defineOp,
  type OpDef,
  type OpSample,
  unsupportedNode,
  type WeightSlot,
} from './support/define-op.ts'
import { range } from './support/emit.ts'
import { substitute } from './support/rewrite.ts'
import { elemOf } from './support/rules.ts'

type Activation = (v: Value) => Value

/** What an activation's alpha and beta are where the node does not say. */
const parameters: Readonly<Record<string, readonly [alpha?: number, beta?: number]>> = {
  Affine: [1, 0],
  LeakyRelu: [0.01],
  ThresholdedRelu: [1],
  ScaledTanh: [1, 1],
  HardSigmoid: [0.2, 0.5],
  Elu: [1],
}

/** Everything that the steps of one direction read; weights as matrices. */
interface Direction {
  readonly b: Builder
  readonly gates: number
  readonly hidden: number
  /** X_t W^T, without bias where `rowBias` is applied separately. */
  readonly projected: readonly Value[]
  readonly recurrent: Value
  readonly recurrentBias: Value | null
  readonly peephole: Value | null
  readonly activations: readonly Activation[]
  readonly clip: (v: Value) => Value
}

interface State {
  readonly h: Value
  readonly c: Value | null
}

type Step = (d: Direction, x: Value, s: State, node: Node) => State

const add = (b: Builder, x: Value, y: Value): Value => b.op('Add', [x, y])
const mul = (b: Builder, x: Value, y: Value): Value => b.op('Mul', [x, y])
const split = (b: Builder, v: Value, parts: number, size: number, axis: number): Value[] =>
  b.ops('Split', [v, b.ints(Array<number>(parts).fill(size))], parts, { axis })
/** H R^T + c */
const withState = (b: Builder, h: Value, r: Value, c: Value): Value => b.op('Gemm', [h, r, c], { transB: 1 })

const rnnStep: Step = ({ b, recurrent, activations: [f], clip }, x, { h }) => ({
  h: f!(clip(withState(b, h, recurrent, x))),
  c: null,
})

const gruStep: Step = (d, x, { h }, node) => {
  const { b, hidden, recurrent, recurrentBias, activations, clip } = d
  const [f, g] = activations
  const before = node.int('linear_before_reset', 0) === 1
  const [xz, xr, xh] = split(b, x, 3, hidden, 1)
  const [rz, rr, rh] = split(b, recurrent, 3, hidden, 0)
  const z = f!(clip(withState(b, h, rz!, xz!)))
  const r = f!(clip(withState(b, h, rr!, xr!)))
  const inner = (): Value => {
    if (!before) return withState(b, mul(b, r, h), rh!, xh!)
    const state = b.op('Gemm', [h, rh!, recurrentBias], { transB: 1 })
    return add(b, xh!, mul(b, r, state))
  }
  const fresh = g!(clip(inner()))
  const keep = b.op('Sub', [b.scalar(1, elemOf(x)), z])
  return { h: add(b, mul(b, keep, fresh), mul(b, z, h)), c: null }
}

const lstmStep: Step = ({ b, hidden, recurrent, peephole, activations, clip }, x, { h, c }, node) => {
  const [f, g, last] = activations
  const [i0, o0, f0, c0] = split(b, withState(b, h, recurrent, x), 4, hidden, 1)
  const [pi, po, pf] = peephole ? split(b, peephole, 3, hidden, 0) : []
  const watch = (gate: Value, p: Value | undefined, cell: Value): Value =>
    clip(p ? add(b, gate, mul(b, p, cell)) : gate)
  const input = f!(watch(i0!, pi, c!))
  const coupled = node.int('input_forget', 0) === 1
  const forget = coupled ? b.op('Sub', [b.scalar(1, elemOf(x)), input]) : f!(watch(f0!, pf, c!))
  const cell = add(b, mul(b, forget, c!), mul(b, input, g!(clip(c0!))))
  const output = f!(watch(o0!, po, cell))
  return { h: mul(b, output, last!(cell)), c: cell }
}

interface Family {
  readonly gates: number
  readonly step: Step
  readonly activations: readonly string[]
  /** Input of peepholes and of the initial cell. */
  readonly cell: boolean
}

const families: Readonly<Record<string, Family>> = {
  RNN: { gates: 1, step: rnnStep, activations: ['Tanh'], cell: false },
  GRU: { gates: 3, step: gruStep, activations: ['Sigmoid', 'Tanh'], cell: false },
  LSTM: { gates: 4, step: lstmStep, activations: ['Sigmoid', 'Tanh', 'Tanh'], cell: true },
}

function decompose(node: Node): void {
  const { gates, step, cell, activations } = families[node.op]!
  refuseForms(node)
  const b = node.graph.before(node)
  const x = node.input(0)
  const [steps, batch] = x.dims as [number, number, number]
  const hidden = node.input(2).dims[2]!
  const ways = node.string('direction', 'forward') === 'bidirectional' ? 2 : 1
  const backward = (d: number): boolean => d === 1 || node.string('direction', 'forward') === 'reverse'
  const named = strings(node, 'activations')
  const used = named.length > 0 ? named : Array.from({ length: ways }, () => activations).flat()
  const functions = activationsOf(b, node, used)
  const results = range(ways).map((d) => {
    const direction = directionOf(b, node, d, ways, { gates, hidden, steps, batch })
    const own = functions.slice(d * activations.length, (d + 1) * activations.length)
    const initial = (i: number): Value => stateOf(b, node, i, d, ways, [batch, hidden])
    let state: State = { h: initial(5), c: cell ? initial(6) : null }
    const all: Value[] = []
    const order = backward(d) ? range(steps).reverse() : range(steps)
    for (const t of order) {
      state = step({ ...direction, activations: own }, direction.projected[t]!, state, node)
      all[t] = state.h
    }
    return { all, state }
  })
  const stack = (values: readonly Value[], axis: number): Value =>
    values.length === 1 ? values[0]! : b.op('Concat', values, { axis })
  const row = (v: Value, dims: readonly number[]): Value => b.op('Reshape', [v, b.ints(dims)])
  const finals = (of: (s: State) => Value): Value =>
    stack(
      results.map(({ state }) => row(of(state), [1, batch, hidden])),
      0,
    )
  const sequence = (): Value =>
    stack(
      range(steps).map((t) =>
        stack(
          results.map(({ all }) => row(all[t]!, [1, 1, batch, hidden])),
          1,
        ),
      ),
      0,
    )
  const made = [sequence, () => finals((s) => s.h), () => finals((s) => s.c!)]
  substitute(
    node,
    node.outputs.map((v, i) => (v?.isUsed ? made[i]!() : null)),
  )
}

/**
 * A step is up to 30 nodes: this many in both directions are 60,000 before their gradients, more than a session can be
 * made from in reasonable time.
 */
const MAX_STEPS = 1024

function refuseForms(node: Node): void {
  const count = node.input(0).type?.dims?.[0] ?? null
  if (typeof count !== 'number') throw unsupportedNode(node, 'no gradient: the length of its sequence is dynamic')
  if (count > MAX_STEPS)
    throw unsupportedNode(node, `no gradient: it has ${count} steps, more than ${MAX_STEPS}`, 'shorten its sequence')
  if (node.int('layout', 0) === 1) throw unsupportedNode(node, 'no gradient: batch-first layout', 'transpose its input')
  if (!node.inputs[4]) return
  const lengths = constantOf(node.inputs[4])?.toNumbers()
  if (!lengths || !Array.from(lengths).every((n) => n === count))
    throw unsupportedNode(node, 'no gradient: its sequences differ in length', 'cut them to one length')
}

interface Sizes {
  readonly gates: number
  readonly hidden: number
  readonly steps: number
  readonly batch: number
}

/** The part of direction `d` of an operand, as dims. */
function part(b: Builder, v: Value, d: number, ways: number, dims: readonly number[]): Value {
  const one = ways === 1 ? v : b.op('Gather', [v, b.ints([d])], { axis: 0 })
  return b.op('Reshape', [one, b.ints(dims)])
}

function directionOf(b: Builder, node: Node, d: number, ways: number, sizes: Sizes): Omit<Direction, 'activations'> {
  const { gates, hidden, steps, batch } = sizes
  const x = node.input(0)
  const width = x.dims[2]!
  const rows = gates * hidden
  const weights = part(b, node.input(1), d, ways, [rows, width])
  const recurrent = part(b, node.input(2), d, ways, [rows, hidden])
  const given = node.inputs[3]
  const [wb, rb] = given ? split(b, part(b, given, d, ways, [2 * rows]), 2, rows, 0) : []
  // a reset gate applied after the recurrent product takes that product's bias with it
  const apart = node.op === 'GRU' && node.int('linear_before_reset', 0) === 1
  let bias = wb && rb ? (apart ? wb : add(b, wb, rb)) : null
  let recurrentBias: Value | null = null
  if (apart && rb && wb) {
    const [zr, , h] = [
      b.op('Slice', [rb, b.ints([0]), b.ints([2 * hidden])]),
      null,
      b.op('Slice', [rb, b.ints([2 * hidden]), b.ints([rows])]),
    ]
    recurrentBias = h
    bias = add(
      b,
      wb,
      b.op('Concat', [zr, b.op('ConstantOfShape', [b.ints([hidden])], { value: Tensor.from(elemOf(x), [1], [0]) })], {
        axis: 0,
      }),
    )
  }
  const flat = b.op('Reshape', [x, b.ints([steps * batch, width])])
  const product = b.op('Gemm', [flat, weights, ...(bias ? [bias] : [])], { transB: 1 })
  const whole = b.op('Reshape', [product, b.ints([steps, batch, rows])])
  const projected = split(b, whole, steps, 1, 0).map((v) => b.op('Reshape', [v, b.ints([batch, rows])]))
  const watch = node.inputs[7]
  const limit = node.float('clip', 0)
  const bound = (v: number): Value => b.scalar(v, elemOf(x))
  return {
    ...{ b, gates, hidden, projected, recurrent, recurrentBias },
    peephole: watch ? part(b, watch, d, ways, [3 * hidden]) : null,
    clip: limit > 0 ? (v) => b.op('Clip', [v, bound(-limit), bound(limit)]) : (v) => v,
  }
}

function stateOf(b: Builder, node: Node, i: number, d: number, ways: number, dims: readonly number[]): Value {
  const given = node.inputs[i]
  if (given) return part(b, given, d, ways, dims)
  return b.op('ConstantOfShape', [b.ints(dims)], { value: Tensor.from(elemOf(node.input(0)), [1], [0]) })
}

function strings(node: Node, name: string): string[] {
  const a = node.attributes.get(name)
  return a?.kind === 'strings' ? a.value.map((s) => new TextDecoder().decode(s)) : []
}

/** One function for each name; alpha and beta are handed out to those that take them, in order. */
function activationsOf(b: Builder, node: Node, names: readonly string[]): Activation[] {
  const [alphas, betas] = [[...node.floats('activation_alpha', [])], [...node.floats('activation_beta', [])]]
  const known = ['Sigmoid', 'Tanh', 'Relu', 'Softsign', 'Softplus', ...Object.keys(parameters)]
  return names.map((given) => {
    const name = known.find((k) => k.toLowerCase() === given.toLowerCase())
    if (!name) throw unsupportedNode(node, `no gradient: its activation '${given}' is unknown`)
    const [alpha0, beta0] = parameters[name] ?? []
    const alpha = alpha0 === undefined ? undefined : (alphas.shift() ?? alpha0)
    const beta = beta0 === undefined ? undefined : (betas.shift() ?? beta0)
    const number = (x: number, like: Value): Value => b.scalar(x, elemOf(like))
    if (name === 'Affine') return (v) => add(b, mul(b, v, number(alpha!, node.input(0))), number(beta!, node.input(0)))
    if (name === 'ScaledTanh')
      return (v) => mul(b, b.op('Tanh', [mul(b, v, number(beta!, node.input(0)))]), number(alpha!, node.input(0)))
    const attributes: Record<string, AttributeLike> = {
      ...(alpha !== undefined && { alpha: float(alpha) }),
      ...(beta !== undefined && { beta: float(beta) }),
    }
    return (v) => b.op(name, [v], attributes)
  })
}

/** Two products per step and direction, and some ten operations per gate and unit. */
function cost(node: Node): Cost {
  const [steps = 1, batch = 1, width = 1] = node.input(0).dims
  const [ways = 1, rows = 1, hidden = 1] = node.input(2).dims
  const macs = steps * batch * ways * rows * (width + hidden)
  const gates = steps * batch * ways * rows
  return { macs, mults: macs + 3 * gates, adds: macs + 3 * gates, comparisons: 0 }
}

const [T, B, I, H] = [3, 2, 4, 3]
const x = { dims: [T, B, I] }
const w = (gates: number, ways = 1) => ({ dims: [ways, gates * H, I] })
const r = (gates: number, ways = 1) => ({ dims: [ways, gates * H, H] })
const bias = (gates: number, ways = 1) => ({ dims: [ways, 2 * gates * H] })
const state = (ways = 1) => ({ dims: [ways, B, H] })
const lengths = { dims: [B], type: 'int32' as const, values: [T, T] }

/** W and R are [directions, gates * hidden, inputs]; R's other factor is the state. */
const matrices: readonly WeightSlot[] = [
  { input: 1, data: 0, part: 'W', outputAxis: () => 1, inputAxis: () => 2 },
  { input: 2, part: 'R', outputAxis: () => 1, inputAxis: () => 2 },
]

const recurrent = (op: string, since: readonly number[], samples: readonly OpSample[]): OpDef =>
  defineOp({ op, since, gradient: 'decompose', decompose, weights: matrices, parameters: [1, 2, 3, 7], cost, samples })

export const recurrents: readonly OpDef[] = [
  recurrent(
    'RNN',
    [7, 14, 22],
    [
      { name: 'forward', inputs: [x, w(1), r(1), bias(1)], outputs: 2, attributes: { hidden_size: H } },
      {
        name: 'reverse, scaled tanh, opset 7',
        inputs: [x, w(1), r(1), null, lengths, state()],
        attributes: {
          ...{ hidden_size: H, direction: 'reverse', activations: ['Affine'] },
          ...{ activation_alpha: { kind: 'floats', value: [0.7] }, activation_beta: { kind: 'floats', value: [0.1] } },
        },
        opset: 7,
      },
    ],
  ),
  recurrent(
    'GRU',
    [7, 14, 22],
    [
      { name: 'forward', inputs: [x, w(3), r(3), bias(3), null, state()], outputs: 2, attributes: { hidden_size: H } },
      {
        name: 'linear before reset, both ways',
        inputs: [x, w(3, 2), r(3, 2), bias(3, 2)],
        outputs: 2,
        attributes: { hidden_size: H, direction: 'bidirectional', linear_before_reset: 1 },
      },
      { name: 'opset 7', inputs: [x, w(3), r(3)], attributes: { hidden_size: H }, opset: 7 },
    ],
  ),
  recurrent(
    'LSTM',
    [7, 14, 22],
    [
      {
        name: 'both ways, all outputs',
        inputs: [x, w(4, 2), r(4, 2), bias(4, 2), null, state(2), state(2)],
        outputs: 3,
        attributes: { hidden_size: H, direction: 'bidirectional' },
      },
      {
        name: 'peepholes, clipped',
        inputs: [x, w(4), r(4), bias(4), null, state(), state(), { dims: [1, 3 * H] }],
        outputs: 3,
        attributes: { hidden_size: H, clip: float(2) },
      },
      { name: 'opset 7', inputs: [x, w(4), r(4)], attributes: { hidden_size: H }, opset: 7 },
    ],
  ),
]
