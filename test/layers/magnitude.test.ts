import assert from 'node:assert/strict'
import test from 'node:test'
import fc from 'fast-check'
import { MncError } from '../../src/base/errors.ts'
import { Rng } from '../../src/base/rng.ts'
import { Tensor } from '../../src/graph/tensor.ts'
import { computeMasks, keepLargest, type PrunableLayer, parsePattern } from '../../src/layers/magnitude.ts'

const layer = (dims: readonly number[], seed: number): PrunableLayer => {
  const rng = new Rng(seed)
  const weights = Float32Array.from({ length: dims.reduce((a, b) => a * b, 1) }, () => rng.uniform(-1, 1))
  return { weights: Tensor.float32(dims, weights), inputAxis: 1, outputAxis: 0 }
}
const zeros = (m: Float32Array): number => m.reduce((n, x) => n + (x === 0 ? 1 : 0), 0)

test('keepLargest drops exactly the smallest magnitudes, ties by index', () => {
  const floats = fc.array(fc.float({ noNaN: true, min: -4, max: 4 }), { minLength: 1, maxLength: 40 })
  fc.assert(
    fc.property(
      fc.array(floats, { minLength: 1, maxLength: 3 }),
      fc.double({ min: 0, max: 1, noNaN: true }),
      (a, part) => {
        const arrays = a.map((x) => Float32Array.from(x))
        const tensors = arrays.map((x) => Tensor.float32([x.length], x))
        const all = arrays.flatMap((x) => [...x])
        const count = Math.round(part * all.length)
        const order = all.map((w, i) => ({ w: Math.abs(w), i })).sort((x, y) => x.w - y.w || x.i - y.i)
        const expected = new Float32Array(all.length).fill(1)
        for (const { i } of order.slice(0, count)) expected[i] = 0
        assert.deepEqual(
          keepLargest(tensors, count).flatMap((rule, i) => [...tensors[i]!.mapFloats('float32', rule).toFloat32()]),
          [...expected],
        )
      },
    ),
  )
})

test('global sparsity is exact over all layers; scope layer is exact in each', () => {
  const [a, b] = [layer([16, 8, 3, 3], 1), layer([8, 16, 1, 1], 2)]
  const layers = [a, b]
  const total = 16 * 8 * 9 + 8 * 16
  const global = computeMasks(layers, { sparsity: 0.75 })
  assert.equal(zeros(global.get(a)!) + zeros(global.get(b)!), total * 0.75)
  const own = computeMasks(layers, { sparsity: 0.75, scope: 'layer' })
  assert.equal(zeros(own.get(a)!), 16 * 8 * 9 * 0.75)
  assert.equal(zeros(own.get(b)!), 8 * 16 * 0.75)
})

/** By the definition: every weight against all others of its channel. */
function byDefinition(layers: readonly PrunableLayer[], sparsity: number): Float32Array[] {
  const scored = layers.flatMap(({ weights, outputAxis }, l) => {
    const w = weights.toFloat32()
    const inner = weights.dims.slice(outputAxis + 1).reduce((a, b) => a * b, 1)
    const channel = (i: number): number => Math.floor(i / inner) % weights.dims[outputAxis]!
    return [...w].map((x, i) => {
      const own = [...w].filter((_, k) => channel(k) === channel(i))
      const larger = own.filter((v) => Math.abs(v) >= Math.abs(x)).reduce((sum, v) => sum + v * v, 0)
      return { l, i, score: Math.fround((Math.sqrt(own.length) * x * x) / larger) }
    })
  })
  scored.sort((a, b) => a.score - b.score)
  const masks = layers.map((l) => new Float32Array(l.weights.size).fill(1))
  for (const { l, i } of scored.slice(0, Math.round(sparsity * scored.length))) masks[l]![i] = 0
  return masks
}

test('scope adaptive takes the smallest shares of their output channels, over all layers', () => {
  for (const outputAxis of [0, 1]) {
    const layers = [layer([6, 5, 3, 3], 1), layer([7, 11, 1, 1], 2), layer([9, 4], 3)].map((l, i) => ({
      ...l,
      ...{ inputAxis: 1 - outputAxis, outputAxis },
      weights: Tensor.float32(
        l.weights.dims,
        l.weights.toFloat32().map((x) => x * 10 ** i),
      ),
    }))
    for (const sparsity of [0, 0.3, 0.75, 0.95]) {
      const masks = computeMasks(layers, { sparsity, scope: 'adaptive' })
      assert.deepEqual(
        layers.map((l) => masks.get(l)),
        byDefinition(layers, sparsity),
      )
    }
    const [a, b] = layers
    const mixed = computeMasks(layers, { sparsity: 0.5, scope: 'adaptive', overrides: new Map([[b!, 0.9]]) })
    assert.deepEqual([mixed.get(b!)!], byDefinition([b!], 0.9))
    const alone = computeMasks([a!, b!], { sparsity: 0.5, scope: 'adaptive-layer' })
    assert.deepEqual([alone.get(a!)!, alone.get(b!)!], [...byDefinition([a!], 0.5), ...byDefinition([b!], 0.5)])
  }
})

test('scope adaptive: scaled channels have the same mask, and each keeps its largest weight', () => {
  const layers = [layer([6, 5, 3, 3], 1), layer([7, 11, 1, 1], 2)]
  const rng = new Rng(4)
  const scaled = layers.map((l) => {
    const of = Array.from({ length: l.weights.dims[0]! }, () => 2 ** Math.floor(rng.uniform(0, 12)))
    const each = l.weights.size / of.length
    const values = l.weights.toFloat32().map((x, i) => x * of[Math.floor(i / each)]!)
    return { ...l, weights: Tensor.float32(l.weights.dims, values) }
  })
  const masksOf = (all: readonly PrunableLayer[]) => [
    ...computeMasks(all, { sparsity: 0.8, scope: 'adaptive' }).values(),
  ]
  assert.deepEqual(masksOf(scaled), masksOf(layers))
  for (const [l, mask] of computeMasks(layers, { sparsity: 0.8, scope: 'adaptive' }))
    for (let c = 0, each = mask.length / l.weights.dims[0]!; c < l.weights.dims[0]!; c++)
      assert.ok(mask.subarray(c * each, (c + 1) * each).includes(1))
})

test('an override is exact and leaves the global pool', () => {
  const [a, b, c] = [layer([10, 10, 1, 1], 1), layer([10, 10, 1, 1], 2), layer([10, 10, 1, 1], 3)]
  const masks = computeMasks([a, b, c], { sparsity: 0.5, overrides: new Map([[b, 0.9]]) })
  assert.equal(zeros(masks.get(b)!), 90)
  assert.equal(zeros(masks.get(a)!) + zeros(masks.get(c)!), 100)
})

test('n:m keeps the n largest of each m consecutive input channels', () => {
  const l = layer([3, 8, 2, 1], 5)
  const mask = computeMasks([l], { sparsity: 0, pattern: '2:4' }).get(l)!
  for (let o = 0; o < 3; o++)
    for (let g = 0; g < 8; g += 4)
      for (let p = 0; p < 2; p++) {
        const at = [0, 1, 2, 3].map((k) => o * 16 + (g + k) * 2 + p)
        const kept = at.filter((i) => mask[i] === 1)
        assert.equal(kept.length, 2)
        const weights = l.weights.toFloat32()
        const least = Math.min(...kept.map((i) => Math.abs(weights[i]!)))
        for (const i of at) if (mask[i] === 0) assert.ok(Math.abs(weights[i]!) <= least)
      }
  assert.equal(computeMasks([layer([4, 3, 3, 3], 1)], { sparsity: 0, pattern: '2:4' }).size, 0)
})

test('channel drops whole output channels and leaves one in every layer', () => {
  const [small, large] = [layer([4, 2, 1, 1], 1), layer([4, 2, 1, 1], 2)]
  const values = small.weights.toFloat32()
  for (let i = 0; i < values.length; i++) values[i]! *= 1e-3
  const masks = computeMasks([small, large], { sparsity: 0.5, pattern: 'channel' })
  const channels = (m: Float32Array): number[] => [0, 1, 2, 3].map((c) => m[2 * c]! + m[2 * c + 1]!)
  for (const m of masks.values()) for (const c of channels(m)) assert.ok(c === 0 || c === 2)
  assert.equal(channels(masks.get(small)!).filter((c) => c === 0).length, 3)
  assert.equal(channels(masks.get(large)!).filter((c) => c === 0).length, 1)
})

test('patterns that make no sense are refused', () => {
  for (const p of ['4:2', '0:4', 'block', '2:2', '2/4']) assert.throws(() => parsePattern(p), MncError)
})
