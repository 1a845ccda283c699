/** Matrix products. */
import type { KernelTable, Tf, TfTensor } from './kernel.ts'

function matmul(tf: Tf, a: TfTensor, b: TfTensor): TfTensor {
  const left = a.rank === 1 ? tf.reshape(a, [1, a.size]) : a
  const right = b.rank === 1 ? tf.reshape(b, [b.size, 1]) : b
  const batch = tf.backend_util.assertAndGetBroadcastShape(left.shape.slice(0, -2), right.shape.slice(0, -2))
  const y = tf.matMul(spread(tf, left, batch), spread(tf, right, batch))
  const dims = y.shape.slice(0, -2)
  if (a.rank > 1) dims.push(a.shape.at(-2)!)
  if (b.rank > 1) dims.push(b.shape.at(-1)!)
  return dims.length === y.rank ? y : tf.reshape(y, dims)
}

/** Kernels repeat a whole batch, but not single axes of it. */
function spread(tf: Tf, t: TfTensor, batch: readonly number[]): TfTensor {
  const own = t.shape.slice(0, -2)
  const whole = own.length === batch.length && own.every((d, i) => d === batch[i])
  return whole || own.length === 0 ? t : tf.broadcastTo(t, [...batch, ...t.shape.slice(-2)])
}

/** Labels of a term; digits stand for the axes of an ellipsis, the last one 0. */
function labelsOf(term: string, rank: number): string[] {
  const hidden = rank - term.replace('...', '').length
  return [...term.replace('...', Array.from({ length: hidden }, (_, i) => hidden - 1 - i).join(''))]
}

/** Every operand spread over all labels, multiplied, summed over those that the output lacks. */
function einsum(tf: Tf, equation: string, x: readonly TfTensor[]): TfTensor {
  const [left, right] = equation.replaceAll(' ', '').split('->') as [string, string | undefined]
  const terms = left.split(',').map((t, i) => labelsOf(t, x[i]!.rank))
  const all = [...new Set(terms.flat())]
  const dots = all.filter((l) => /\d/.test(l)).sort((a, b) => Number(b) - Number(a))
  const once = all.filter((l) => /\D/.test(l) && terms.flat().filter((m) => m === l).length === 1).sort()
  const out = right === undefined ? [...dots, ...once] : [...right.replace('...', dots.join(''))]
  const order = [...out, ...all.filter((l) => !out.includes(l))]
  const factors = x.map((t, i) => {
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
  const product = factors.reduce((a, b) => tf.mul(a, b))
  const summed = order.slice(out.length).map((_, i) => out.length + i)
  return summed.length > 0 ? tf.sum(product, summed) : product
}

export const linear: KernelTable = {
  MatMul: ({ tf, x: [a, b] }) => matmul(tf, a!, b!),
  Gemm({ tf, node, x: [a, b, c] }) {
    const y = tf.matMul(a!, b!, node.int('transA', 0) === 1, node.int('transB', 0) === 1)
    const [alpha, beta] = [node.float('alpha', 1), node.float('beta', 1)]
    const scaled = alpha === 1 ? y : tf.mul(y, alpha)
    return c ? tf.add(scaled, beta === 1 ? c : tf.mul(c, beta)) : scaled
  },
  Einsum: ({ tf, node, x }) => einsum(tf, node.string('equation', ''), x as TfTensor[]),
}
