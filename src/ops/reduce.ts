/**
 * Reductions over axes: the second input, absent = all axes. In the rules dy is brought back to the kept-dims shape
 * first; it then broadcasts against x. A reduction with noop_with_empty_axes and no axes is elementwise.
 */
import type { Builder } from '../graph/builder.ts'
import type { Node, Value } from '../graph/graph.ts'
import { constantOf } from './support/constant-of.ts'
import { type Cost, defineOp, type OpDef, type OpSample, outputSize } from './support/define-op.ts'
import { axesToInput, axisFromFront, type Expression, expressions } from './support/rules.ts'

interface ReduceContext {
  readonly f: Expression
  /** dy and y with the reduced axes kept as 1. */
  readonly dy: Value
  y(): Value
  readonly x: Value
  /** How many elements went into one. */
  readonly count: number
  /** Broadcasts a kept-dims value to x. */
  spread(v: Value): Value
  /** Reduces something of x's shape over the same axes, which are kept. */
  over(op: string, v: Value): Value
}

const size = (v: Value): number => v.dims.reduce((p, d) => p * d, 1)

/** The reduced axes as given: null = none were. */
function axesOf(node: Node): Value | null {
  const axes = node.inputs[1] ?? null
  return axes && constantOf(axes)?.size === 0 ? null : axes
}

function contextOf(node: Node, dy: Value, b: Builder): ReduceContext {
  const x = node.input(0)
  const axes = axesOf(node)
  const noop = !axes && node.int('noop_with_empty_axes', 0) === 1
  const keep = (v: Value): Value => {
    if (noop || node.int('keepdims', 1) === 1) return v
    return axes ? b.op('Unsqueeze', [v, axes]) : b.op('Reshape', [v, b.ints(x.dims.map(() => 1))])
  }
  return {
    f: expressions(b, node.output),
    dy: keep(dy),
    y: () => keep(node.output),
    x,
    count: size(x) / Math.max(1, size(node.output)),
    spread: (v) => (noop ? v : b.op('Expand', [v, b.ints(x.dims)])),
    over: (op, v) => (noop ? v : b.op(op, [v, ...(axes ? [axes] : [])], { keepdims: 1 })),
  }
}

const wide = { dims: [2, 3, 4] }
const distinct = {
  dims: [2, 3, 2],
  values: [0.9, -0.3, 0.1, 1.4, -1.1, 0.6, 0.4, -0.8, 1.7, -0.2, 0.35, 1.05],
} as const
const axesInput = (...values: number[]) => ({ dims: [values.length], type: 'int64', values }) as const

/** The same cases for every reduction; `from` is the opset since which axes are an input. */
const samplesOf = (x: OpSample['inputs'][0], from: number): readonly OpSample[] => [
  { name: 'one axis, kept', inputs: [x, axesInput(1)] },
  { name: 'two axes, dropped', inputs: [x, axesInput(-1, 0)], attributes: { keepdims: 0 } },
  { name: 'all, dropped', inputs: [x], attributes: { keepdims: 0 } },
  { name: 'old axes attribute', opset: from - 2, inputs: [x], attributes: { axes: [2], keepdims: 0 } },
  { name: 'opset 7, all', opset: 7, inputs: [x] },
]

/** Whether only axes after the channels are reduced. */
function overPositions(node: Node): boolean {
  const axes = constantOf(axesOf(node))?.toNumbers()
  const rank = node.input(0).type?.dims?.length
  if (!axes || rank === undefined) return false
  return axes.length > 0 && Array.from(axes).every((a) => axisFromFront(a, rank) >= 2)
}

interface ReduceFacts {
  readonly since: readonly number[]
  /** Opset since which axes are an input. */
  readonly axesFrom?: number
  readonly rule: (c: ReduceContext) => Value
  /** Operations for `n` elements going into `m`. */
  readonly cost: (n: number, m: number) => Partial<Cost>
  readonly nonNegative?: NonNullable<OpDef['nonNegative']>
  readonly homogeneous?: boolean
  readonly x?: OpSample['inputs'][0]
}

function reduction(
  op: string,
  { since, axesFrom = 18, rule, cost, nonNegative, homogeneous, x = wide }: ReduceFacts,
): OpDef {
  return defineOp({
    op,
    since,
    gradient: ({ node, dy: [dy], b }) => (dy ? [rule(contextOf(node, dy, b))] : []),
    cost: (node) => ({ macs: 0, mults: 0, adds: 0, comparisons: 0, ...cost(size(node.input(0)), outputSize(node)) }),
    ...(nonNegative && { nonNegative }),
    ...(homogeneous && { homogeneous: () => 'channel' as const }),
    channels: (node) => (overPositions(node) ? 'same' : null),
    upgrades: [axesToInput(axesFrom)],
    samples: samplesOf(x, axesFrom),
  })
}

const passes = (_: Node, input: (i: number) => boolean): boolean => input(0)
const always = (): boolean => true

/** Max and Min: ties share the gradient evenly, as in PyTorch. dx = where(x = y, dy / ties, 0) */
const extreme = ({ f, dy, y, x, over }: ReduceContext): Value => {
  const chosen = f('Equal', x, y())
  const ties = over('ReduceSum', f('Where', chosen, 1, 0))
  return f('Where', chosen, f('Div', dy, ties), 0)
}

const extremes: ReduceFacts = {
  homogeneous: true,
  since: [1, 11, 12, 13, 18, 20],
  rule: extreme,
  cost: (n, m) => ({ comparisons: n - m }),
  nonNegative: passes,
  x: distinct,
}

export const reductions: readonly OpDef[] = [
  // y = sum x: dx = dy
  reduction('ReduceSum', {
    homogeneous: true,
    since: [1, 11, 13],
    axesFrom: 13,
    rule: ({ dy, spread }) => spread(dy),
    cost: (n, m) => ({ adds: n - m }),
    nonNegative: passes,
  }),
  // y = sum x / n: dx = dy / n
  reduction('ReduceMean', {
    homogeneous: true,
    since: [1, 11, 13, 18],
    rule: ({ f, dy, count, spread }) => spread(f('Mul', dy, 1 / count)),
    cost: (n, m) => ({ adds: n - m, mults: m }),
    nonNegative: passes,
  }),
  reduction('ReduceMax', extremes),
  reduction('ReduceMin', extremes),
  // y = sum |x|: dx = dy sign(x)
  reduction('ReduceL1', {
    homogeneous: true,
    since: [1, 11, 13, 18],
    rule: ({ f, dy, x }) => f('Mul', f('Sign', x), dy),
    cost: (n, m) => ({ adds: n - m, comparisons: n }),
    nonNegative: always,
    x: distinct,
  }),
  // y = sqrt(sum x^2): dx = x dy / y, 0 where y = 0
  reduction('ReduceL2', {
    homogeneous: true,
    since: [1, 11, 13, 18],
    rule({ f, dy, y, x }) {
      const norm = y()
      return f('Mul', x, f('Div', dy, f('Where', f('Equal', norm, 0), 1, norm)))
    },
    cost: (n, m) => ({ adds: n - m, mults: n + m }),
    nonNegative: always,
  }),
  // y = sum x^2: dx = 2 x dy
  reduction('ReduceSumSquare', {
    since: [1, 11, 13, 18],
    rule: ({ f, dy, x }) => f('Mul', x, f('Add', dy, dy)),
    cost: (n, m) => ({ adds: n - m, mults: n }),
    nonNegative: always,
  }),
  // y = ln sum x: dx = dy e^-y
  reduction('ReduceLogSum', {
    since: [1, 11, 13, 18],
    rule: ({ f, dy, y, spread }) => spread(f('Mul', dy, f('Exp', f('Neg', y())))),
    cost: (n, m) => ({ adds: n - m, mults: m }),
    x: { dims: [2, 3, 4], range: [0.2, 2] },
  }),
  // y = ln sum e^x: dx = dy e^(x - y)
  reduction('ReduceLogSumExp', {
    since: [1, 11, 13, 18],
    rule: ({ f, dy, y, x }) => f('Mul', f('Exp', f('Sub', x, y())), dy),
    cost: (n, m) => ({ adds: n - m, mults: n + m }),
  }),
  // y = prod x: dx_i = dy * product of the others, which is 0 where another element is 0. With zeros replaced by ones,
  // dx = where(i is the only zero or there is none, dy P / x, 0)
  reduction('ReduceProd', {
    since: [1, 11, 13, 18],
    rule({ f, dy, x, over }) {
      const zero = f('Where', f('Equal', x, 0), 1, 0)
      const nonZero = f('Add', x, zero)
      const others = f('Div', f('Mul', dy, over('ReduceProd', nonZero)), nonZero)
      return f('Where', f('Equal', zero, over('ReduceSum', zero)), others, 0)
    },
    cost: (n, m) => ({ mults: n - m }),
    nonNegative: passes,
    x: distinct,
  }),
]
