/** Native operators against TensorFlow.js: its own gradients of the same formula. */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import type * as tfjs from '@tensorflow/tfjs-core'
import { Rng } from '../../../src/base/rng.ts'
import { encodeModel } from '../../../src/codec/codec.ts'
import { Graph } from '../../../src/graph/graph.ts'
import { Model } from '../../../src/graph/model.ts'
import type { AttributeLike } from '../../../src/graph/parts.ts'
import { Tensor } from '../../../src/graph/tensor.ts'
import {
  ACTIVATION_GRADIENT,
  GRADIENT,
  NORM,
  NORM_ADD,
  STEP_DOMAIN,
  WEIGHT_GRADIENT,
} from '../../../src/lowerings/native/operators.ts'
import { createNativeSession } from '../../../src/runtime/native/session.ts'
import { tf } from '../../ops/tfjs.ts'
import { kernels, noKernels } from '../../support/native.ts'

const skip = noKernels
const EPSILON = 1e-3

interface Run {
  readonly op: string
  readonly inputs: readonly Tensor[]
  readonly outputs: number
  readonly attributes: Readonly<Record<string, AttributeLike>>
  readonly threads?: number
}

async function run({ op, inputs, outputs, attributes, threads = 1 }: Run): Promise<Tensor[]> {
  const model = new Model(new Graph('one'))
  model.opsets.set(STEP_DOMAIN, 1)
  const { graph } = model
  const given = inputs.map((t, i) => graph.addInput(`in${i}`, { elem: 'float32', dims: t.dims }))
  for (const v of graph.append().ops(op, given, outputs, attributes, { domain: STEP_DOMAIN })) {
    v.setType({ elem: 'float32', dims: null })
    graph.addOutput(v)
  }
  const names = { inputs: graph.inputs.map((v) => v.name), outputs: graph.outputs.map((v) => v.name) }
  const session = createNativeSession(kernels(), encodeModel(model), names, { threads })
  try {
    const out = await session.run(Object.fromEntries(inputs.map((t, i) => [`in${i}`, t])))
    return names.outputs.map((name) => out[name]!)
  } finally {
    await session.dispose()
  }
}

const product = (dims: readonly number[]): number => dims.reduce((a, b) => a * b, 1)

const noise = (rng: Rng, dims: readonly number[], mean = 0, deviation = 1): Tensor =>
  Tensor.float32(
    dims,
    Float32Array.from({ length: product(dims) }, () => rng.normal(mean, deviation)),
  )

/** [N, C/lanes, ..., lanes] in memory, with numbers that nothing may read in channels beyond C. */
function blocked(t: Tensor, lanes: number): Tensor {
  const [n, c, ...size] = t.dims as [number, number, ...number[]]
  const positions = product(size)
  const filled = Math.ceil(c / lanes) * lanes
  const from = t.view('float32')
  const out = new Float32Array(n * filled * positions).fill(13)
  for (let i = 0; i < n; i++)
    for (let k = 0; k < c; k++)
      for (let p = 0; p < positions; p++)
        out[((i * filled) / lanes + Math.floor(k / lanes)) * positions * lanes + p * lanes + (k % lanes)] =
          from[(i * c + k) * positions + p]!
  return Tensor.float32([n, filled, ...size], out)
}

function plain(t: Tensor, c: number, lanes: number): Tensor {
  const [n, filled, ...size] = t.dims as [number, number, ...number[]]
  const positions = product(size)
  const from = t.view('float32')
  const out = new Float32Array(n * c * positions)
  for (let i = 0; i < n; i++)
    for (let k = 0; k < c; k++)
      for (let p = 0; p < positions; p++)
        out[(i * c + k) * positions + p] =
          from[((i * filled) / lanes + Math.floor(k / lanes)) * positions * lanes + p * lanes + (k % lanes)]!
  return Tensor.float32([n, c, ...size], out)
}

const activations = {
  none: { kind: 0, least: 0, most: 0, of: (z: tfjs.Tensor) => z },
  relu: { kind: 1, least: 0, most: 0, of: (z: tfjs.Tensor) => tf.relu(z) },
  clip: { kind: 2, least: -0.5, most: 1.25, of: (z: tfjs.Tensor) => tf.clipByValue(z, -0.5, 1.25) },
  'h-swish': {
    kind: 3,
    least: 0,
    most: 0,
    of: (z: tfjs.Tensor) => tf.mul(z, tf.div(tf.clipByValue(tf.add(z, 3), 0, 6), 6)),
  },
} as const

const attributesOf = (lanes: number, { kind, least, most }: (typeof activations)[keyof typeof activations]) => ({
  ...{ lanes, activation: kind, epsilon: { kind: 'float', value: EPSILON } as const },
  ...{ least: { kind: 'float', value: least } as const, most: { kind: 'float', value: most } as const },
})

function near(name: string, got: Tensor, want: tfjs.Tensor, tolerance = 1e-5): void {
  const [a, b] = [got.view('float32'), Float32Array.from(want.dataSync())]
  assert.equal(a.length, b.length, name)
  const scale = b.reduce((m, v) => Math.max(m, Math.abs(v)), 1)
  a.forEach((v, i) => {
    assert.ok(Math.abs(v - b[i]!) <= tolerance * scale, `${name}[${i}]: ${v}, not ${b[i]} (largest ${scale})`)
  })
}

const toTf = (t: Tensor): tfjs.Tensor => tf.tensor(t.view('float32'), [...t.dims])

/** Forward pass and gradients by TensorFlow.js. */
function reference(x: Tensor, scale: Tensor, bias: Tensor, dy: Tensor, of: (z: tfjs.Tensor) => tfjs.Tensor) {
  const axes = x.dims.flatMap((_, i) => (i === 1 ? [] : [i]))
  const wide = x.dims.map((d, i) => (i === 1 ? d : 1))
  const { mean, variance } = tf.moments(toTf(x), axes)
  const normal = (v: tfjs.Tensor, s: tfjs.Tensor, b: tfjs.Tensor): tfjs.Tensor => {
    const moments = tf.moments(v, axes, true)
    const xhat = tf.div(tf.sub(v, moments.mean), tf.sqrt(tf.add(moments.variance, EPSILON)))
    return tf.add(tf.mul(xhat, tf.reshape(s, wide)), tf.reshape(b, wide))
  }
  const forward = (...a: Parameters<typeof normal>): tfjs.Tensor => of(normal(...a))
  const given = [x, scale, bias].map(toTf) as [tfjs.Tensor, tfjs.Tensor, tfjs.Tensor]
  const [dx, dscale, dbias] = tf.grads(forward as (...a: tfjs.Tensor[]) => tfjs.Tensor)(given, toTf(dy))
  const sum = of(tf.add(normal(...given), toTf(dy)))
  return { y: forward(...given), sum, mean, variance, dx: dx!, dscale: dscale!, dbias: dbias! }
}

const shapes: readonly (readonly number[])[] = [
  ...[
    [1, 1, 1, 2],
    [1, 16, 5, 7],
    [3, 20, 9, 9],
    [5, 33, 3, 4],
    [2, 7, 70, 65],
  ],
  ...[
    [64, 5],
    [9, 24, 11],
    [2, 18, 3, 3, 3],
  ],
]

test('normalisation with its activation and their gradient, blocked and plain', { skip }, async () => {
  const rng = new Rng(5)
  for (const dims of shapes)
    for (const [name, activation] of Object.entries(activations))
      for (const lanes of [1, 8, 16]) {
        const [x, dy] = [noise(rng, dims, 0.3, 2), noise(rng, dims)]
        const [scale, bias] = [noise(rng, [dims[1]!], 1, 0.3), noise(rng, [dims[1]!], 0, 0.5)]
        const want = reference(x, scale, bias, dy, activation.of)
        const label = `${dims.join('x')} ${name} in ${lanes} lanes`
        const attributes = attributesOf(lanes, activation)
        const into = (t: Tensor): Tensor => blocked(t, lanes)
        const [y, mean, variance] = (await run({
          ...{ op: NORM, inputs: [into(x), scale, bias], outputs: 3, attributes },
        })) as [Tensor, Tensor, Tensor]
        near(`y of ${label}`, plain(y, dims[1]!, lanes), want.y)
        const added = { op: NORM_ADD, inputs: [into(x), into(dy), scale, bias], outputs: 3, attributes }
        near(`sum of ${label}`, plain((await run(added))[0]!, dims[1]!, lanes), want.sum)
        near(`mean of ${label}`, mean, want.mean)
        near(`variance of ${label}`, variance, want.variance)
        const inputs = [into(dy), into(x), mean, variance, scale, bias]
        const [dx, dscale, dbias] = (await run({ op: GRADIENT, inputs, outputs: 3, attributes })) as typeof inputs
        near(`dx of ${label}`, plain(dx!, dims[1]!, lanes), want.dx, 3e-5)
        near(`dscale of ${label}`, dscale!, want.dscale, 3e-5)
        near(`dbias of ${label}`, dbias!, want.dbias)
      }
})

test('statistics are exact where the mean is a million deviations', { skip }, async () => {
  const rng = new Rng(6)
  const x = noise(rng, [4, 17, 12, 12], 1e4, 0.01)
  const [scale, bias] = [noise(rng, [17], 1, 0), noise(rng, [17], 0, 0)]
  for (const lanes of [1, 16]) {
    const attributes = attributesOf(lanes, activations.none)
    const [, mean, variance] = await run({ op: NORM, inputs: [blocked(x, lanes), scale, bias], outputs: 3, attributes })
    const values = x.view('float32')
    for (let c = 0; c < 17; c++) {
      const own = values.filter((_, i) => Math.floor(i / 144) % 17 === c)
      const m = own.reduce((a, v) => a + v, 0) / own.length
      const v = own.reduce((a, u) => a + (u - m) ** 2, 0) / own.length
      assert.ok(Math.abs(mean!.view('float32')[c]! - m) < 1e-3)
      assert.ok(Math.abs(variance!.view('float32')[c]! / v - 1) < 1e-4, `${variance!.view('float32')[c]}, not ${v}`)
    }
  }
})

test('a number that is not finite reaches its channel and no other', { skip }, async () => {
  const rng = new Rng(7)
  for (const wrong of [Number.NaN, Number.POSITIVE_INFINITY])
    for (const lanes of [1, 16]) {
      const values = noise(rng, [2, 18, 5, 5]).view('float32')
      values[3 * 25 + 7] = wrong
      const x = Tensor.float32([2, 18, 5, 5], values)
      const [scale, bias, dy] = [noise(rng, [18], 1, 0), noise(rng, [18], 0, 0), noise(rng, [2, 18, 5, 5])]
      const attributes = attributesOf(lanes, activations.relu)
      const [, mean, variance] = (await run({
        ...{ op: NORM, inputs: [blocked(x, lanes), scale, bias], outputs: 3, attributes },
      })) as [Tensor, Tensor, Tensor]
      const inputs = [blocked(dy, lanes), blocked(x, lanes), mean, variance, scale, bias]
      const [dx] = await run({ op: GRADIENT, inputs, outputs: 3, attributes })
      for (let c = 0; c < 18; c++) {
        const own = plain(dx!, 18, lanes)
          .view('float32')
          .filter((_, i) => Math.floor(i / 25) % 18 === c)
        assert.equal(own.every(Number.isFinite), c !== 3, `${wrong}, channel ${c}`)
        assert.equal(Number.isFinite(variance.view('float32')[c]), c !== 3)
      }
    }
})

interface Convolution {
  readonly x: readonly number[]
  readonly out: number
  readonly kernel: readonly [number, number]
  readonly stride?: readonly [number, number]
  readonly dilation?: readonly [number, number]
  /** top, left, bottom, right */
  readonly pads?: readonly [number, number, number, number]
}

const convolutions: readonly Convolution[] = [
  { x: [3, 20, 7, 9], out: 33, kernel: [1, 1] },
  { x: [2, 16, 8, 8], out: 16, kernel: [3, 3], pads: [1, 1, 1, 1] },
  { x: [17, 24, 9, 6], out: 10, kernel: [3, 5], pads: [1, 2, 0, 1] },
  { x: [2, 9, 11, 12], out: 40, kernel: [3, 3], stride: [2, 2], pads: [0, 1, 1, 1] },
  { x: [1, 18, 13, 10], out: 8, kernel: [2, 3], stride: [1, 2], dilation: [3, 1], pads: [2, 2, 3, 0] },
  { x: [4, 3, 10, 11], out: 20, kernel: [3, 3], stride: [2, 1], pads: [1, 1, 1, 1] },
  { x: [2, 1, 6, 6], out: 17, kernel: [5, 5], pads: [2, 2, 2, 2] },
  { x: [2, 8, 1, 1], out: 8, kernel: [3, 3], pads: [1, 1, 1, 1] },
]

test('weight gradients of convolutions', { skip }, async () => {
  const rng = new Rng(8)
  for (const c of convolutions) {
    const { stride = [1, 1], dilation = [1, 1], pads = [0, 0, 0, 0] } = c
    const [, channels] = c.x as [number, number]
    const x = noise(rng, c.x)
    const outSize = [0, 1].map((i) => {
      const seen = c.x[i + 2]! + pads[i]! + pads[i + 2]! - dilation[i]! * (c.kernel[i]! - 1)
      return Math.floor((seen - 1) / stride[i]!) + 1
    })
    const dy = noise(rng, [c.x[0]!, c.out, ...outSize])
    const byTaps = dwByTaps(x, dy, { ...c, stride, dilation, pads })
    for (const lanes of [8, 16])
      for (const xLanes of channels <= 4 ? [1, lanes] : [lanes]) {
        const numbers = [lanes, xLanes, c.out, channels, ...c.kernel, ...stride, ...dilation, pads[0], pads[1]]
        const attributes = { numbers: { kind: 'ints', value: numbers.map(BigInt) } as const }
        const inputs = [blocked(x, xLanes), blocked(dy, lanes)]
        const [dw] = await run({ op: WEIGHT_GRADIENT, inputs, outputs: 1, attributes })
        assert.deepEqual(dw!.dims, [c.out, channels, ...c.kernel])
        near(`${JSON.stringify(c)} in ${lanes} lanes`, dw!, byTaps, 2e-5)
      }
  }
})

/** By products of matrices: a matrix of all outputs for each tap. */
function dwByTaps(x: Tensor, dy: Tensor, c: Required<Convolution>): tfjs.Tensor {
  const [n, channels, height, width] = x.dims as [number, number, number, number]
  const [, , rows, columns] = dy.dims as [number, number, number, number]
  const out: tfjs.Tensor[] = []
  const padded = tf.pad(toTf(x), [
    ...[
      [0, 0],
      [0, 0],
    ],
    ...[
      [c.pads[0], c.pads[2]],
      [c.pads[1], c.pads[3]],
    ],
  ] as [number, number][])
  assert.deepEqual(padded.shape, [n, channels, height + c.pads[0] + c.pads[2], width + c.pads[1] + c.pads[3]])
  for (let k = 0; k < c.kernel[0]; k++)
    for (let l = 0; l < c.kernel[1]; l++) {
      const begin = [0, 0, k * c.dilation[0], l * c.dilation[1]]
      const end = [n, channels, begin[2]! + (rows - 1) * c.stride[0] + 1, begin[3]! + (columns - 1) * c.stride[1] + 1]
      const seen = tf.stridedSlice(padded, begin, end, [1, 1, ...c.stride])
      const flat = (t: tfjs.Tensor, of: number): tfjs.Tensor => tf.reshape(tf.transpose(t, [1, 0, 2, 3]), [of, -1])
      out.push(tf.matMul(flat(toTf(dy), c.out), flat(seen, channels), false, true))
    }
  return tf.reshape(tf.stack(out, 2), [c.out, channels, ...c.kernel])
}

test('results do not depend on the number of threads', { skip }, async () => {
  const rng = new Rng(9)
  const dims = [24, 40, 19, 17]
  const [x, dy] = [blocked(noise(rng, dims), 16), blocked(noise(rng, dims), 16)]
  const [scale, bias] = [noise(rng, [40], 1, 0.3), noise(rng, [40])]
  const attributes = attributesOf(16, activations['h-swish'])
  const numbers = [16, 16, 40, 40, 3, 3, 1, 1, 1, 1, 1, 1].map(BigInt)
  const all = async (threads: number): Promise<string> => {
    const forward = await run({ op: NORM, inputs: [x, scale, bias], outputs: 3, attributes, threads })
    const inputs = [dy, x, forward[1]!, forward[2]!, scale, bias]
    const backward = await run({ op: GRADIENT, inputs, outputs: 3, attributes, threads })
    const weights = { op: WEIGHT_GRADIENT, inputs: [x, dy], outputs: 1, threads }
    const dw = await run({ ...weights, attributes: { numbers: { kind: 'ints', value: numbers } } })
    return [...forward, ...backward, ...dw].map((t) => Buffer.from(t.bytes).toString('base64')).join()
  }
  const one = await all(1)
  for (const threads of [2, 4]) assert.equal(await all(threads), one, `${threads} threads`)
})

test('a session that a wrong input stopped runs again, and a model it refuses is an error', { skip }, async () => {
  const rng = new Rng(10)
  const attributes = attributesOf(16, activations.none)
  const inputs = [noise(rng, [2, 16, 3, 3]), noise(rng, [16]), noise(rng, [16])]
  await assert.rejects(
    run({ op: 'NoSuchOperator', inputs, outputs: 3, attributes }),
    /refuses the model: .*NoSuchOperator/,
  )
  const model = new Model(new Graph('one'))
  model.opsets.set(STEP_DOMAIN, 1)
  const given = inputs.map((t, i) => model.graph.addInput(`in${i}`, { elem: 'float32', dims: t.dims }))
  const [y] = model.graph.append().ops(NORM, given, 3, attributes, { domain: STEP_DOMAIN })
  y!.setType({ elem: 'float32', dims: [2, 16, 3, 3] })
  model.graph.addOutput(y!)
  const names = { inputs: ['in0', 'in1', 'in2'], outputs: [y!.name] }
  const session = createNativeSession(kernels(), encodeModel(model), names, {})
  const feeds = { in0: inputs[0]!, in1: inputs[1]!, in2: inputs[2]! }
  const before = await session.run(feeds)
  await assert.rejects(session.run({ ...feeds, in0: noise(rng, [2, 16, 3]) }), /could not run the model/)
  await assert.rejects(session.run({ in0: feeds.in0 }), /could not run the model/)
  assert.deepEqual((await session.run(feeds))[y!.name]!.bytes, before[y!.name]!.bytes)
  await session.dispose()
  await session.dispose()
  await assert.rejects(session.run(feeds), /disposed/)
})

test('gradients of activations', { skip }, async () => {
  const rng = new Rng(12)
  for (const dims of [[5], [3, 20, 9, 9], [70_001]])
    for (const [name, activation] of Object.entries(activations).slice(1)) {
      const [z, dy] = [noise(rng, dims, 0, 3), noise(rng, dims)]
      const [want] = tf.grads(activation.of as (...a: tfjs.Tensor[]) => tfjs.Tensor)([toTf(z)], toTf(dy))
      const { lanes: _, epsilon: __, ...attributes } = attributesOf(1, activation)
      const [dz] = await run({ op: ACTIVATION_GRADIENT, inputs: [dy, z], outputs: 1, attributes })
      near(`${name} of ${dims.join('x')}`, dz!, want!)
    }
})
