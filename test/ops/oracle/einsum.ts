/** Einsum: every operand spread over all labels, multiplied, summed over those that the output lacks. */
import type { Tensor as Tf } from '@tensorflow/tfjs-core'
import { tf } from '../tfjs.ts'
import type { OracleOp } from '../tfjs-oracle.ts'

/** Digits stand for the axes of an ellipsis, the last one 0. */
function labelsOf(term: string, rank: number): string[] {
  const letters = term.replace('...', '').length
  const ellipsis = Array.from({ length: rank - letters }, (_, i) => String(rank - letters - 1 - i)).join('')
  return [...term.replace('...', ellipsis)]
}

export const einsum: OracleOp = (x, n) => {
  const [left, right] = n.string('equation', '').replaceAll(' ', '').split('->') as [string, string | undefined]
  const terms = left.split(',').map((t, i) => labelsOf(t, x[i]!.rank))
  const all = [...new Set(terms.flat())]
  const dots = all
    .filter((l) => /\d/.test(l))
    .sort()
    .reverse()
  const once = all.filter((l) => /\D/.test(l) && terms.flat().filter((m) => m === l).length === 1).sort()
  const out = right === undefined ? [...dots, ...once] : [...right.replace('...', dots.join(''))]
  const order = [...out, ...all.filter((l) => !out.includes(l))]
  const spread = x.map((t, i): Tf => {
    const labels = terms[i]!
    const present = order.filter((l) => labels.includes(l))
    const moved = tf.transpose(
      t,
      present.map((l) => labels.indexOf(l)),
    )
    return tf.reshape(
      moved,
      order.map((l) => (labels.includes(l) ? t.shape[labels.indexOf(l)]! : 1)),
    )
  })
  const summed = order.slice(out.length).map((_, i) => out.length + i)
  const product = spread.reduce((a, b) => tf.mul(a, b))
  return summed.length > 0 ? tf.sum(product, summed) : tf.mul(product, 1)
}
