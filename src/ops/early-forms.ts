/**
 * The forms of opsets 1 to 6, upgraded to 7: attributes that said which buffer may be overwritten (`consumed_inputs`) or
 * which mode runs (`is_test`), broadcasting that had to be asked for, shapes that were attributes.
 *
 *   Add, Mul, Pow, Less, And, ...: with `broadcast` = 1 the second operand stands at axis `axis` of the first, or at its
 *   end; since 7 always at the end, so it takes the ones that are missing after it. Where the rank of the first operand
 *   is unknown (`rankOf`), the graph counts them.
 *   Dropout: in a file it is inference, whatever `is_test` says (as ONNX's own converter has it).
 *
 * Does not apply to operators that never were in the standard (Affine, Crop, ImageScaler, ...) nor to operands that must
 * be constants and are not: a Split's sizes, a Tile's axis.
 */
import { float } from '../graph/attribute.ts'
import type { Node, Value } from '../graph/graph.ts'
import { Tensor } from '../graph/tensor.ts'
import { elementTypes } from '../graph/types.ts'
import { constantOf } from './support/constant-of.ts'
import { type Upgrade, unsupportedNode } from './support/define-op.ts'
import { rankOf } from './support/early-ranks.ts'
import { axisFromFront } from './support/rules.ts'

const drop =
  (...names: readonly string[]) =>
  (node: Node): void => {
    for (const name of names) node.setAttribute(name, null)
  }

/** Ops of which opset 6 took `consumed_inputs` and nothing else. */
const consuming = `Abs Add Ceil Clip Div Dropout Elu Exp Floor HardSigmoid InstanceNormalization LeakyRelu Log Max Mean
  Min Mul Neg PRelu Reciprocal Relu Sigmoid Sqrt Sub Sum Tanh BatchNormalization`.split(/\s+/)

const broadcasting = 'Add And Div Equal Greater Less Mul Or Pow Sub Xor'.split(' ')

const dropConsumed: Upgrade = { to: 6, apply: drop('consumed_inputs') }

/** The second operand under the axes of the first that it was meant for. */
function alignSecond(node: Node): void {
  const axis = node.attributes.has('axis') ? node.int('axis', 0) : null
  const asked = node.int('broadcast', 0) === 1
  drop('axis', 'broadcast')(node)
  if (!asked) return
  const [a, b] = [node.input(0), node.input(1)]
  const [rank, own] = [rankOf(a), rankOf(b)]
  // one element is the same wherever it stands, and its ones must not make the output's rank larger
  if (own !== null && own > 0 && constantOf(b)?.size === 1) node.setInput(1, reshaped(node, b, []))
  else if (axis !== null && own !== 0) node.setInput(1, alignedTo(node, a, b, axis, rank, own))
}

function alignedTo(node: Node, a: Value, b: Value, axis: number, rank: number | null, own: number | null): Value {
  if (rank !== null && own !== null) {
    // -1 stands for the end in files of Caffe2
    const behind = axis < 0 ? 0 : rank - axis - own
    if (behind < 0)
      throw unsupportedNode(node, `its second operand of rank ${own} does not fit at axis ${axis} of rank ${rank}`)
    const axes = Array.from({ length: behind }, (_, i) => own + i)
    return behind === 0 ? b : node.graph.before(node).op('Unsqueeze', [b], { axes })
  }
  if (axis < 0) return b
  if (own === null)
    throw unsupportedNode(node, `the rank of '${b.name}' is unknown, so the position of axis ${axis} is unknown too`)
  const f = node.graph.before(node)
  const sizes = f.op('Slice', [f.op('Shape', [a])], { starts: [axis + own], ends: [2 ** 31 - 1], axes: [0] })
  const ones = f.op('Add', [f.op('Sub', [sizes, sizes]), f.ints([1])])
  return f.op('Reshape', [b, f.op('Concat', [f.op('Shape', [b]), ones], { axis: 0 })])
}

const reshaped = (node: Node, v: Value, dims: readonly number[]): Value => {
  const f = node.graph.before(node)
  return f.op('Reshape', [v, f.initializer('shape', Tensor.int64([dims.length], dims))])
}

/** One slope per channel: channels are axis 1. */
function channelSlope(node: Node): void {
  const [x, slope] = [node.input(0), node.input(1)]
  const size = slope.constant?.size ?? null
  if (size === 1 || (rankOf(slope) ?? 1) !== 1) return
  const rank = rankOf(x)
  if (rank === null)
    throw unsupportedNode(node, `the rank of '${x.name}' is unknown, so the position of its channels is unknown too`)
  const axes = Array.from({ length: Math.max(0, rank - 2) }, (_, i) => 1 + i)
  if (axes.length > 0) node.setInput(1, node.graph.before(node).op('Unsqueeze', [slope], { axes }))
}

function castByNumber(node: Node): void {
  const to = node.string('to', '')
  const code = Object.entries(onnxNames).find(([name]) => name === to.toUpperCase())?.[1]
  if (code === undefined) throw unsupportedNode(node, `'${to}' is not an element type`)
  node.setAttribute('to', code)
}

const onnxNames: Readonly<Record<string, number>> = Object.fromEntries(
  Object.entries(elementTypes).flatMap(([name, { code }]) => {
    const upper = name.toUpperCase()
    return [[{ FLOAT32: 'FLOAT', FLOAT64: 'DOUBLE' }[upper] ?? upper, code]]
  }),
)

function shapeToInput(node: Node): void {
  const shape = node.ints('shape', []).map(Number)
  drop('shape', 'consumed_inputs')(node)
  node.setInput(1, node.graph.before(node).ints(shape))
}

/** Tile 1 repeats along one axis, by two inputs of one element. */
function tileAllAxes(node: Node): void {
  const [times, axis] = [1, 2].map((i) => constantOf(node.inputs[i])?.toNumbers()[0])
  const rank = rankOf(node.input(0))
  if (times === undefined || axis === undefined)
    throw unsupportedNode(node, 'how often it repeats, and along which axis, is computed in the graph')
  if (rank === null) throw unsupportedNode(node, `the rank of '${node.input(0).name}' is unknown`)
  const at = axisFromFront(axis, rank)
  node.setInput(2, null)
  node.setInput(1, node.graph.before(node).ints(Array.from({ length: rank }, (_, i) => (i === at ? times : 1))))
}

/** Split 1 may have its sizes as an input, and does not say which axis it takes by default. */
function splitByAttribute(node: Node): void {
  if (!node.attributes.has('axis')) throw unsupportedNode(node, 'it has no axis, and opset 1 has no default for it')
  const sizes = node.inputs[1]
  if (!sizes) return
  const values = constantOf(sizes)?.toNumbers()
  if (!values) throw unsupportedNode(node, 'its sizes are computed in the graph')
  node.setInput(1, null)
  node.setAttribute('split', Array.from(values))
}

/** The power became an integer. */
function wholePower(node: Node): void {
  const p = node.float('p', 2)
  if (!Number.isInteger(p)) throw unsupportedNode(node, `a norm of power ${p} has no equivalent in later opsets`)
  node.setAttribute('p', { kind: 'int', value: BigInt(p) })
}

function renamed(from: string, to: string) {
  return (node: Node): void => {
    const a = node.attributes.get(from)
    if (a) node.setAttribute(to, a)
    node.setAttribute(from, null)
  }
}

function scalesOfImage(node: Node): void {
  const value = [1, 1, node.float('height_scale', 1), node.float('width_scale', 1)]
  drop('height_scale', 'width_scale')(node)
  node.setAttribute('scales', { kind: 'floats', value })
}

/** The constants of opset 1 are rounded. */
function seluDefaults(node: Node): void {
  node.setAttribute('consumed_inputs', null)
  node.setAttribute('alpha', float(node.float('alpha', 1.6732)))
  node.setAttribute('gamma', float(node.float('gamma', 1.0507)))
}

const recurrent: Upgrade = { to: 7, apply: drop('output_sequence') }

const steps: readonly (readonly [op: string, step: Upgrade])[] = [
  ...consuming.map((op) => [op, dropConsumed] as const),
  ...broadcasting.map((op) => [op, { to: 7, apply: alignSecond }] as const),
  ['Cast', { to: 6, apply: castByNumber }],
  ['Concat', { to: 4, apply: (node) => node.setAttribute('axis', node.int('axis', 1)) }],
  ['Dropout', { to: 7, apply: drop('is_test') }],
  ['GRU', recurrent],
  ['Gemm', { to: 7, apply: drop('broadcast') }],
  ['GlobalLpPool', { to: 2, apply: wholePower }],
  ['LSTM', recurrent],
  ['LpPool', { to: 2, apply: wholePower }],
  ['PRelu', { to: 7, apply: channelSlope }],
  ['Pad', { to: 2, apply: renamed('paddings', 'pads') }],
  ['RNN', recurrent],
  ['Reshape', { to: 5, apply: shapeToInput }],
  ['Selu', { to: 6, apply: seluDefaults }],
  ['Split', { to: 2, apply: splitByAttribute }],
  ['Tile', { to: 6, apply: tileAllAxes }],
  ['Upsample', { to: 7, apply: scalesOfImage }],
]

const byOp = new Map<string, Upgrade[]>()
for (const [op, step] of steps) byOp.set(op, [...(byOp.get(op) ?? []), step])

/** Steps of an operator of the default domain up to opset 7, in ascending order. */
export const earlyUpgrades = (op: string): readonly Upgrade[] => byOp.get(op) ?? []
