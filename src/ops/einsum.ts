/**
 * Einsum: Y[out] = sum over the labels that Y lacks of the product of the operands.
 *
 *   dX_i = Einsum of dY and the other operands, to the labels of X_i; a label that only X_i has is repeated
 *
 * Does not apply to a label twice in one operand (a diagonal), nor to ellipses over dims that broadcast.
 */
import type { Node, Value } from '../graph/graph.ts'
import { defineOp, type GradientContext, noCost, unsupportedNode } from './support/define-op.ts'
import { expand, product, reshape, typed } from './support/emit.ts'
import { elemOf } from './support/rules.ts'

interface Equation {
  readonly inputs: readonly string[]
  readonly output: string
  readonly size: ReadonlyMap<string, number>
}

/** The equation with letters in place of ellipses and with an explicit output. */
function equationOf(node: Node): Equation {
  const [left, right] = node.string('equation', '').replace(/\s+/g, '').split('->') as [string, string | undefined]
  const spare = [...'ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz'].filter((l) => !left.includes(l))
  const terms = left.split(',')
  const hidden = Math.max(
    0,
    ...terms.flatMap((t, i) => (t.includes('...') ? [node.input(i).dims.length - (t.length - 3)] : [])),
  )
  const letters = (n: number): string => spare.slice(hidden - n, hidden).join('')
  const inputs = terms.map((t, i) => t.replace('...', letters(node.input(i).dims.length - (t.length - 3))))
  const once = [...new Set(left.replace(/[,.]/g, ''))].filter((l) => left.split(l).length === 2).sort()
  const output = right?.replace('...', letters(hidden)) ?? letters(hidden) + once.join('')
  const size = new Map<string, number>()
  inputs.forEach((labels, i) => {
    if (new Set(labels).size < labels.length) throw unsupportedNode(node, 'no gradient: a label occurs twice in a term')
    ;[...labels].forEach((l, k) => {
      const d = node.input(i).dims[k]!
      if (size.has(l) && size.get(l) !== d) throw unsupportedNode(node, 'no gradient: its ellipses broadcast')
      size.set(l, d)
    })
  })
  return { inputs, output, size }
}

function gradient({ node, dy, needs, b }: GradientContext): (Value | null)[] {
  const g = dy[0]
  if (!g) return []
  const { inputs, output, size } = equationOf(node)
  return inputs.map((labels, i) => {
    if (!needs[i]) return null
    const x = node.input(i)
    const operands = inputs.flatMap((t, k) => (k === i ? [] : [{ labels: t, value: node.input(k) }]))
    const others = smallestFirst(output, operands, labels, size)
    const known = [...labels].filter((l) => output.includes(l) || others.some((o) => o.labels.includes(l)))
    const equation = `${[output, ...others.map((o) => o.labels)].join(',')}->${known.join('')}`
    const sum = b.op('Einsum', [g, ...others.map((o) => o.value)], { equation })
    typed(
      sum,
      known.map((l) => size.get(l)!),
      elemOf(x),
    )
    if (known.length === labels.length) return sum
    const open = [...labels].map((l) => (known.includes(l) ? size.get(l)! : 1))
    return expand(b, reshape(b, sum, open), x.dims)
  })
}

interface Operand {
  readonly labels: string
  readonly value: Value
}

/**
 * The operands in the order in which what lies between stays small: onnxruntime multiplies one after the other and sums
 * over a label once nothing later has it.
 */
function smallestFirst(
  first: string,
  operands: readonly Operand[],
  result: string,
  size: ReadonlyMap<string, number>,
): Operand[] {
  const left = [...operands]
  const out: Operand[] = []
  let held = new Set(first)
  while (left.length > 0) {
    const after = (o: Operand): Set<string> => {
      const needed = new Set([...result, ...left.filter((p) => p !== o).flatMap((p) => [...p.labels])])
      return new Set([...held, ...o.labels].filter((l) => needed.has(l)))
    }
    const elements = (o: Operand): number => product([...after(o)].map((l) => size.get(l) ?? 1))
    const next = left.reduce((best, o) => (elements(o) < elements(best) ? o : best))
    held = after(next)
    out.push(next)
    left.splice(left.indexOf(next), 1)
  }
  return out
}

export const einsum = defineOp({
  op: 'Einsum',
  since: [12],
  gradient,
  cost(node) {
    const { output, size } = equationOf(node)
    const macs = product([...size.values()])
    const outputs = product([...output].map((l) => size.get(l) ?? 1))
    return { ...noCost, macs, mults: macs * Math.max(0, node.inputs.length - 1), adds: macs - outputs }
  },
  parameters: [1],
  samples: [
    { name: 'matrices', inputs: [{ dims: [3, 4] }, { dims: [4, 5] }], attributes: { equation: 'ij,jk->ik' } },
    {
      name: 'attention scores',
      inputs: [{ dims: [2, 3, 2, 4] }, { dims: [2, 5, 2, 4] }],
      attributes: { equation: 'bqhd, bkhd -> bhqk' },
    },
    { name: 'implicit output', inputs: [{ dims: [3, 2] }, { dims: [3, 4] }], attributes: { equation: 'ij,ik' } },
    { name: 'ellipsis', inputs: [{ dims: [2, 3, 4] }, { dims: [4, 2] }], attributes: { equation: '...j,jk->...k' } },
    { name: 'sum of a row', inputs: [{ dims: [2, 3, 4] }], attributes: { equation: 'ijk->ik' } },
    { name: 'transposed', inputs: [{ dims: [3, 4] }], attributes: { equation: 'ij->ji' } },
    {
      name: 'three operands',
      inputs: [{ dims: [2, 3] }, { dims: [3] }, { dims: [3, 4] }],
      attributes: { equation: 'ij,j,jk->ik' },
    },
  ],
})
