/** Normalisations. Variances are means of squared deviations: two passes, no cancellation. */
import { type KernelTable, perChannel, range, spatialAxes, type Tf, type TfTensor, wrapAxis } from './kernel.ts'

interface Moments {
  readonly mean: TfTensor
  readonly deviation: TfTensor
  readonly variance: TfTensor
}

function moments(tf: Tf, x: TfTensor, axes: number[]): Moments {
  const mean = tf.mean(x, axes, true)
  const deviation = tf.sub(x, mean)
  return { mean, deviation, variance: tf.mean(tf.square(deviation), axes, true) }
}

const normal = (tf: Tf, { deviation, variance }: Moments, epsilon: number): TfTensor =>
  tf.mul(deviation, tf.rsqrt(tf.add(variance, epsilon)))

const affine = (tf: Tf, x: TfTensor, scale: TfTensor, bias: TfTensor): TfTensor =>
  tf.add(tf.mul(x, perChannel(tf, scale, x.rank)), perChannel(tf, bias, x.rank))

export const normalizations: KernelTable = {
  BatchNormalization({ tf, node, x }) {
    const [image, scale, bias, mean, variance] = x as TfTensor[] as [TfTensor, TfTensor, TfTensor, TfTensor, TfTensor]
    const epsilon = node.float('epsilon', 1e-5)
    if (node.int('training_mode', 0) === 0) {
      const factor = tf.mul(scale, tf.rsqrt(tf.add(variance, epsilon)))
      return affine(tf, image, factor, tf.sub(bias, tf.mul(mean, factor)))
    }
    const m = moments(tf, image, [0, ...spatialAxes(image.rank)])
    const keep = node.float('momentum', 0.9)
    const moved = (old: TfTensor, now: TfTensor): TfTensor =>
      tf.add(tf.mul(old, keep), tf.mul(tf.reshape(now, [now.size]), 1 - keep))
    return [affine(tf, normal(tf, m, epsilon), scale, bias), moved(mean, m.mean), moved(variance, m.variance)]
  },
  InstanceNormalization({ tf, node, x: [x, scale, bias] }) {
    const m = moments(tf, x!, spatialAxes(x!.rank))
    return affine(tf, normal(tf, m, node.float('epsilon', 1e-5)), scale!, bias!)
  },
  LayerNormalization({ tf, node, x: [x, scale, bias] }) {
    const axis = wrapAxis(node.int('axis', -1), x!.rank)
    const m = moments(
      tf,
      x!,
      range(x!.rank - axis).map((i) => i + axis),
    )
    const epsilon = node.float('epsilon', 1e-5)
    const y = tf.mul(normal(tf, m, epsilon), scale!)
    return [bias ? tf.add(y, bias) : y, m.mean, tf.rsqrt(tf.add(m.variance, epsilon))]
  },
  GroupNormalization({ tf, node, x: [x, scale, bias] }) {
    const groups = node.int('num_groups', 1)
    const n = x!.shape[0]!
    const split = tf.reshape(x!, [n, groups, x!.size / (n * groups)])
    const flat = normal(tf, moments(tf, split, [2]), node.float('epsilon', 1e-5))
    return affine(tf, tf.reshape(flat, x!.shape), scale!, bias!)
  },
  MeanVarianceNormalization({ tf, node, x: [x] }) {
    const m = moments(tf, x!, [...node.ints('axes', [0, 2, 3])])
    return tf.div(m.deviation, tf.add(tf.sqrt(m.variance), 1e-9))
  },
}
