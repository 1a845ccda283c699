/**
 * Gradients of operators that move elements along an axis, where that is long: the constants of a graph stay in
 * proportion to the tensors, and the gradient is the adjoint of the operator as onnxruntime computes it,
 *
 *   <dy, f(x)> = <df(dy), x>
 *
 * for an operator f that is linear in x.
 */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { Rng } from '../../src/base/rng.ts'
import type { AttributeLike } from '../../src/graph/attribute.ts'
import { Graph } from '../../src/graph/graph.ts'
import { Model } from '../../src/graph/model.ts'
import { Tensor } from '../../src/graph/tensor.ts'
import { elementCount } from '../../src/graph/types.ts'
import { WORKING_OPSET } from '../../src/ops/support/define-op.ts'
import { differentiate } from '../../src/passes/autodiff.ts'
import { decomposeNodes } from '../../src/passes/decompose-ops.ts'
import { lowerCostly } from '../../src/passes/lower-costly.ts'
import { inferTypes } from '../../src/runtime/isolated/infer-types.ts'
import { ortExecutor } from '../../src/runtime/ort/ort.ts'

const rng = new Rng(4)
const random = (dims: readonly number[]): Tensor =>
  Tensor.float32(
    dims,
    Float32Array.from({ length: elementCount(dims) }, () => rng.uniform(-1, 1)),
  )

const ints = (...values: number[]): Tensor => Tensor.int64([values.length], values)
const floats = (...values: number[]): Tensor => Tensor.float32([values.length], values)
const scalar = (value: number): Tensor => Tensor.scalar(value, 'int64')

function dot(a: Tensor, b: Tensor): { sum: number; scale: number } {
  const [x, y] = [a.toNumbers(), b.toNumbers()]
  let [sum, scale] = [0, 0]
  for (let i = 0; i < x.length; i++) {
    sum += x[i]! * y[i]!
    scale += (x[i]! * y[i]!) ** 2
  }
  return { sum, scale: Math.sqrt(scale) }
}

interface Case {
  readonly op: string
  readonly dims: readonly number[]
  readonly constants?: readonly (Tensor | null)[]
  readonly attributes?: Readonly<Record<string, AttributeLike>>
  /** Inputs ahead of x. */
  readonly ahead?: readonly Tensor[]
}

/** The values that the operator alone has, and those of what a training step writes in its place. */
async function checkLowered({ op, dims, constants = [], attributes = {} }: Case, tolerance: number): Promise<void> {
  const what = `${op} ${JSON.stringify(attributes)} of [${dims}]`
  const xs = random(dims)
  const run = async (isLowered: boolean): Promise<Float64Array | Float32Array> => {
    const model = new Model(new Graph('lowered'), WORKING_OPSET)
    const { graph } = model
    const x = graph.addInput('x', { elem: 'float32', dims })
    const given = constants.map((t) => t && graph.addInitializer('c', t))
    graph.addOutput(graph.append().op(op, [x, ...given], attributes))
    await inferTypes(model)
    if (isLowered) {
      assert.equal(lowerCostly(graph), 1, what)
      assert.ok([...graph.nodes()].every((n) => n.op !== op))
    }
    const session = await ortExecutor().load(model, { threads: 1 })
    const results = await session.run({ x: xs })
    await session.dispose()
    return Float64Array.from(results[session.outputNames[0]!]!.toNumbers())
  }
  const [kernel, lowered] = [await run(false), await run(true)]
  assert.equal(lowered.length, kernel.length)
  let worst = 0
  for (let i = 0; i < kernel.length; i++) worst = Math.max(worst, Math.abs(kernel[i]! - lowered[i]!))
  assert.ok(worst <= tolerance, `${what}: differs by ${worst}`)
}

/** Constants may take this many times the bytes of x and y. */
const SHARE = 3

async function check({ op, dims, constants = [], attributes = {}, ahead = [] }: Case, tolerance = 1e-3): Promise<void> {
  const what = `${op} ${JSON.stringify(attributes)} of [${dims}]`
  const model = new Model(new Graph('long'), WORKING_OPSET)
  const { graph } = model
  const x = graph.addInput('x', { elem: 'float32', dims })
  const given = constants.map((t) => t && graph.addInitializer('c', t))
  const first = ahead.map((t, i) => graph.addInput(`a${i}`, { elem: t.type, dims: t.dims }))
  const y = graph.append().op(op, [...first, x, ...given], attributes)
  graph.addOutput(y)
  await inferTypes(model)
  if (decomposeNodes(graph) > 0) await inferTypes(model)
  const [out] = graph.outputs
  const seed = graph.addInput('dy', out!.type)
  const gradient = differentiate(model, new Map([[out!, seed]]), [x]).get(x)!
  graph.addOutput(graph.append().op('Identity', [gradient]))
  const held = Array.from(graph.initializers(), (v) => v.constant!.byteLength).reduce((s, n) => s + n, 0)
  const inputs = [dims, ...ahead.map((t) => t.dims)].map(elementCount)
  const tensors = 4 * inputs.reduce((sum, n) => sum + n, elementCount(out!.dims))
  assert.ok(held <= SHARE * tensors, `${what}: constants of ${held} bytes, x and y have ${tensors}`)
  const [xs, dy] = [random(dims), random(out!.dims)]
  const session = await ortExecutor().load(model, { threads: 1 })
  const fed = Object.fromEntries(ahead.map((t, i) => [`a${i}`, t]))
  const results = await session.run({ x: xs, dy, ...fed })
  await session.dispose()
  const [value, adjoint] = session.outputNames.map((name) => results[name]!) as [Tensor, Tensor]
  assert.deepEqual(adjoint.dims, dims)
  const [forward, backward] = [dot(dy, value), dot(adjoint, xs)]
  const error = Math.abs(forward.sum - backward.sum) / Math.max(forward.scale, backward.scale)
  assert.ok(error < tolerance, `${what}: <dy, f(x)> is ${forward.sum}, <df(dy), x> is ${backward.sum}`)
}

/** `size` along axis `axis` of a tensor of that rank, small elsewhere. */
const long = (rank: number, axis: number, size: number): number[] =>
  Array.from({ length: rank }, (_, i) => (i === axis ? size : i === 0 ? 1 : 2))

for (const mode of ['reflect', 'edge', 'wrap', 'constant'])
  test(`Pad, ${mode}`, async () => {
    for (const [rank, axis, before, after] of [
      [1, 0, 7, 12],
      [2, 1, 400, 0],
      [3, 1, 0, 1],
      [4, 3, 1023, 2047],
      [4, 2, 30_000, 40_000],
    ] as const) {
      const dims = long(rank, axis, 100_000)
      const pads = [before, after].flatMap((p) => dims.map((_, i) => (i === axis ? p : 0)))
      await check({ op: 'Pad', dims, constants: [ints(...pads)], attributes: { mode } })
    }
  })

test('Pad of two long axes, cropped and padded', async () => {
  for (const mode of ['reflect', 'edge', 'wrap'])
    await check({ op: 'Pad', dims: [600, 700], constants: [ints(3, -5, -2, 9)], attributes: { mode } })
})

const scales = (dims: readonly number[], axis: number, s: number): Tensor =>
  floats(...dims.map((_, i) => (i === axis ? s : 1)))

for (const mode of ['nearest', 'linear', 'cubic'])
  test(`Resize, ${mode}`, async () => {
    for (const coordinates of ['half_pixel', 'asymmetric', 'align_corners'])
      for (const scale of mode === 'cubic' ? [1.25, 2, 7.5] : [1 / 128, 0.3125, 1.25, 2, 7.5]) {
        const dims = long(4, 3, 6_000)
        const attributes = { mode, coordinate_transformation_mode: coordinates }
        await check({ op: 'Resize', dims, constants: [null, scales(dims, 3, scale)], attributes })
      }
  })

const COORDINATES = ['half_pixel', 'half_pixel_symmetric', 'pytorch_half_pixel', 'asymmetric', 'align_corners']

for (const mode of ['nearest', 'linear', 'cubic'])
  test(`Resize piece by piece, ${mode}: random sizes`, async () => {
    const draw = new Rng(11)
    const rounding = ['round_prefer_floor', 'round_prefer_ceil', 'floor', 'ceil']
    for (const [i, coordinates] of COORDINATES.entries()) {
      // more elements than are taken whole, on either side
      const [many, few] = [140_000 + draw.integer(9_000), 20_000 + draw.integer(160_000)]
      const [size, out] = i % 2 === 0 ? [few, many] : [many, few]
      const rank = 2 + draw.integer(3)
      const axis = draw.integer(rank)
      const dims = Array.from({ length: rank }, (_, k) => (k === axis ? size : 1 + draw.integer(2)))
      const sizes = ints(...dims.map((d, k) => (k === axis ? out : d)))
      const attributes = {
        ...{ mode, coordinate_transformation_mode: coordinates },
        ...(mode === 'nearest' && { nearest_mode: rounding[i % 4]! }),
        ...(mode === 'cubic' && { exclude_outside: i % 2, cubic_coeff_a: -0.5 - 0.25 * (i % 2) }),
      }
      // onnxruntime's cubic takes two dims that change, its linear ones of the last two or three
      const last = mode === 'nearest' ? dims : [1, 1, 1 + draw.integer(2), size]
      const to = mode === 'nearest' ? sizes : ints(...last.slice(0, 3), out)
      const shape = { op: 'Resize', dims: last, constants: [null, null, to], attributes }
      await check(shape)
      if (mode !== 'nearest' && out > 2 ** 17) await checkLowered(shape, 2e-5)
    }
  })

test('Resize of a region, forwards and from its end to its start', async () => {
  for (const region of [
    [0.2, 0.7],
    [0.9, 0.05],
    [-0.3, 1.2],
  ] as const)
    for (const mode of ['nearest', 'linear']) {
      const roi = floats(0, 0, 0, region[0], 1, 1, 1, region[1])
      const attributes = { mode, coordinate_transformation_mode: 'tf_crop_and_resize' }
      const constants = [roi, null, ints(1, 1, 2, 150_000)]
      await check({ op: 'Resize', dims: [1, 1, 2, 90_000], constants, attributes })
    }
})

test('Resize of a long and a short axis, written in taps and a product', async () => {
  const columns = { dims: [1, 1, 320, 300], constants: [null, floats(1, 1, 1.5, 1)] }
  await checkLowered({ op: 'Resize', ...columns, attributes: { mode: 'cubic', exclude_outside: 1 } }, 2e-5)
  for (const mode of ['linear', 'cubic'])
    await checkLowered(
      { op: 'Resize', dims: [1, 2, 3, 80_000], constants: [null, floats(1, 1, 1.5, 1.75)], attributes: { mode } },
      2e-5,
    )
})

test('Resize of two long axes, and of one in the middle', async () => {
  const attributes = { mode: 'linear' }
  await check({ op: 'Resize', dims: [1, 1, 900, 1100], constants: [null, floats(1, 1, 1.5, 0.4)], attributes })
  await check({ op: 'Resize', dims: [1, 1, 20_000, 3], constants: [null, floats(1, 1, 1.5, 1)], attributes })
})

test('Fourier transforms', async () => {
  // onnxruntime's own, of lengths that are not powers of two, are good to three digits
  const rough = 2e-2
  for (const n of [10_000, 16_384, 9_973]) {
    await check({ op: 'DFT', dims: [1, n, 2], constants: [null, scalar(1)] }, rough)
    await check({ op: 'DFT', dims: [1, n, 1], constants: [null, scalar(1)], attributes: { onesided: 1 } }, rough)
    await check(
      { op: 'DFT', dims: [1, n, 2], constants: [scalar(n + 77), scalar(1)], attributes: { inverse: 1 } },
      rough,
    )
    await check(
      { op: 'DFT', dims: [1, n, 2], constants: [null, scalar(1)], attributes: { inverse: 1, onesided: 1 } },
      rough,
    )
  }
  const window = Tensor.float32(
    [4000],
    Float32Array.from({ length: 4000 }, () => rng.uniform(0.2, 1)),
  )
  await check({ op: 'STFT', dims: [1, 40_000, 1], constants: [scalar(1000), window] }, rough)
})

test('Fourier transforms of overlapping frames', async () => {
  for (const [n, step, samples] of [
    [400, 160, 20_003],
    [255, 255, 9_001],
    [64, 100, 9_999],
    [17, 1, 3_000],
  ] as const) {
    const window = random([n])
    for (const onesided of [0, 1])
      await check({ op: 'STFT', dims: [2, samples, 1], constants: [scalar(step), window], attributes: { onesided } })
  }
})

test('columns to images', async () => {
  const [image, block] = [ints(300, 200), ints(3, 3)]
  await check({ op: 'Col2Im', dims: [1, 9, 298 * 198], constants: [image, block] })
  const attributes = { pads: [1, 2, 1, 2], strides: [2, 3] }
  await check({ op: 'Col2Im', dims: [1, 18, 150 * 68], constants: [image, block], attributes })
})

test('samples of a grid', async () => {
  const grid = Tensor.float32(
    [1, 200, 150, 2],
    Float32Array.from({ length: 60_000 }, () => rng.uniform(-1.3, 1.3)),
  )
  for (const mode of ['nearest', 'linear', 'cubic'])
    for (const padding_mode of ['zeros', 'border', 'reflection'])
      await check({
        op: 'GridSample',
        dims: [1, 2, 170, 130],
        constants: [grid],
        attributes: { mode, padding_mode },
      })
})

test('weights of a convolution over one large image', async () => {
  const ahead = [random([1, 1, 2900, 2950])]
  await check({ op: 'Conv', dims: [2, 1, 3, 3], ahead, attributes: { pads: [1, 1, 1, 1] } })
  await check({ op: 'Conv', dims: [1, 1, 3, 2], ahead, attributes: { strides: [2, 3] } })
})

test('Einsum of four operands, in whatever order', async () => {
  const [a, b, c] = [random([40, 3]), random([3]), random([3, 5])]
  await check({ op: 'Einsum', dims: [5, 7], ahead: [a, b, c], attributes: { equation: 'ij,j,jk,kl->il' } })
})
