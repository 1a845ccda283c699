import assert from 'node:assert/strict'
import test from 'node:test'
import fc from 'fast-check'
import { Rng } from '../../src/base/rng.ts'
import { Graph } from '../../src/graph/graph.ts'
import { Model } from '../../src/graph/model.ts'
import { quantPairOf } from '../../src/layers/quant-pair.ts'
import { activationRange, type SignedForm } from '../../src/quant/activation-range.ts'
import { activationScale, type CalibrationMethod, Histogram } from '../../src/quant/histogram.ts'
import { insertQuantizer } from '../../src/quant/quant-nodes.ts'
import { fakeQuantize, fitWeightScales, integerRange, roundHalfEven } from '../../src/quant/quantizer.ts'
import { randomFeeds, runModel } from '../passes/golden.ts'

const normal = (n: number, seed: number): Float32Array => {
  const rng = new Rng(seed)
  return Float32Array.from(
    { length: n },
    () => Math.sqrt(-2 * Math.log(1 - rng.uniform(0, 1))) * Math.cos(rng.uniform(0, 6.2831853)),
  )
}
const squares = (a: Float32Array, b: Float32Array): number => a.reduce((s, x, i) => s + (x - b[i]!) ** 2, 0)

test('rounding is half to even', () => {
  assert.deepEqual(
    [0.5, 1.5, 2.5, -0.5, -1.5, 2.4999, -3.7].map(roundHalfEven).map((x) => x + 0),
    [0, 2, 2, 0, -2, 2, -4],
  )
})

test('weight scales: als is a fixed point no worse than its start, mse is no worse than max, max clips nothing', () => {
  const w = normal(4 * 64, 3)
  for (const bits of [2, 3, 4, 8]) {
    const error = (s: Float32Array): number => squares(w, fakeQuantize(w, [4, 64], { axis: 0 }, s, bits))
    const [als, mse, max] = (['als', 'mse', 'max'] as const).map((m) =>
      fitWeightScales(w, [4, 64], { axis: 0 }, bits, m),
    )
    const start = Float32Array.from(
      [0, 1, 2, 3],
      (c) => Math.max(...w.subarray(c * 64, c * 64 + 64).map(Math.abs)) / 2 ** (bits - 1),
    )
    assert.ok(error(als!) <= error(start) * (1 + 1e-6))
    assert.ok(error(mse!) <= error(max!))
    const [lo, hi] = integerRange(bits, true)
    for (let i = 0; i < w.length; i++) {
      const q = w[i]! / max![Math.floor(i / 64)]!
      assert.ok(q >= lo - 1e-4 && q <= hi + 1e-4)
    }
  }
})

test('als solves for the scale: s = <w,q>/<q,q> at its own integers', () => {
  const w = normal(100, 9)
  const [s] = fitWeightScales(w, [1, 100], { axis: 0 }, 4, 'als')
  const q = fakeQuantize(w, [1, 100], { axis: 0 }, Float32Array.of(s!), 4).map((x) => Math.round(x / s!))
  const fit = w.reduce((a, x, i) => a + x * q[i]!, 0) / q.reduce((a, x) => a + x * x, 0)
  assert.ok(Math.abs(fit - s!) < 1e-6 * s!)
})

test('scales are per index of any axis, per tensor, and never 0', () => {
  const rows = fitWeightScales(Float32Array.of(1, 2, 3, 4, 5, 6), [2, 3], { axis: 1 }, 8, 'max')
  assert.deepEqual(
    [...rows],
    [4, 5, 6].map((x) => Math.fround(x / 127)),
  )
  assert.deepEqual([...fitWeightScales(new Float32Array(6), [2, 3], { axis: 0 }, 4, 'als')], [2 ** -14, 2 ** -14])
  assert.equal(fitWeightScales(Float32Array.of(1, -8), [2, 1], { axis: null }, 4, 'max')[0], 1)
})

for (const bits of [2, 3, 4, 5, 6, 7, 8])
  for (const signed of [true, false])
    test(`${bits}-bit ${signed ? 'signed' : 'unsigned'} nodes compute the same in onnxruntime as here`, async () => {
      const scales = Float32Array.of(0.1, 0.013)
      const graph = new Graph('g')
      const x = graph.addInput('x', { elem: 'float32', dims: [2, 50] })
      graph.append().op('Identity', [x])
      const spec = { name: 'x', bits, signed, scales, axis: 0, role: 'weight-quant', elem: 'float32' } as const
      const pair = insertQuantizer(x, spec)
      graph.addOutput(pair.dequantize.output)
      const model = new Model(graph)
      const [lo, hi] = integerRange(bits, signed)
      assert.deepEqual([pair.lo, pair.hi, pair.bits, pair.axis], [lo, hi, bits, 0])
      assert.deepEqual(quantPairOf(pair.dequantize), pair)
      const fed = randomFeeds(model, 1).x!.toFloat32()
      const out = (await runModel(model))[pair.dequantize.output.name]!.toFloat32()
      for (let i = 0; i < fed.length; i++) {
        const s = scales[Math.floor(i / 50)]!
        const q = Math.min(hi, Math.max(lo, roundHalfEven(Math.fround(fed[i]! / s))))
        assert.equal(out[i]! + 0, Math.fround(q * s) + 0)
      }
    })

test('a histogram does not depend on how the stream was cut, and its memory not on its length', () => {
  fc.assert(
    fc.property(
      fc.array(fc.float({ noNaN: true, noDefaultInfinity: true, min: -100, max: 100 }), { minLength: 2 }),
      (a) => {
        const whole = new Histogram()
        whole.add(Float32Array.from(a), 'x')
        const parts = new Histogram()
        for (const v of a) parts.add(Float32Array.of(v), 'x')
        assert.equal(parts.count, a.length)
        assert.equal(parts.zeros, whole.zeros)
        assert.deepEqual(parts.view(), whole.view())
      },
    ),
    { examples: [[[1, 2]], [[1.401298464324817e-45, 2.802596928649634e-45]]] },
  )
})

test('activation scales: mse is within a hair of the best, percentile and entropy clip outliers, max does not', () => {
  const values = normal(20000, 4).map((x) => Math.max(0, x))
  values[7] = 40
  const h = new Histogram()
  h.add(values, 'x')
  const error = (s: number): number => values.reduce((e, x) => e + (x - Math.min(15, roundHalfEven(x / s)) * s) ** 2, 0)
  let best = Number.POSITIVE_INFINITY
  for (let s = 0.005; s < 3; s *= 1.01) best = Math.min(best, error(s))
  assert.ok(error(activationScale(h, 0, 15, 'mse')) < best * 1.05)
  assert.equal(activationScale(h, 0, 15, 'max'), Math.fround(40 / 15))
  for (const method of ['percentile', 'entropy'] as const) {
    const s = activationScale(h, 0, 15, method)
    assert.ok(s * 15 > 1.5 && s * 15 < 6, `${method} ${s * 15}`)
  }
  assert.equal(activationScale(new Histogram(), 0, 15, 'mse'), 1)
})

test('a zero point is never worse than symmetric integers, finds uneven ranges, and keeps zero exact', () => {
  const hSwish = normal(20000, 5).map((v) => (2 * v * Math.min(6, Math.max(0, 2 * v + 3))) / 6)
  const square = (values: Float32Array, bits: number, signedInputs: SignedForm, calibration: CalibrationMethod) => {
    const h = new Histogram()
    h.add(values, 'x')
    const o = { bits, nonNegative: false, signedInputs, calibration, percentile: 99.99 }
    const { scale, zeroPoint } = activationRange(h, o)
    const [lo, hi] = integerRange(bits, false)
    if (signedInputs === 'symmetric') assert.equal(zeroPoint, 2 ** (bits - 1))
    assert.ok(Number.isInteger(zeroPoint) && zeroPoint >= lo && zeroPoint <= hi)
    const error = values.reduce((e, x) => {
      const q = Math.min(hi - zeroPoint, Math.max(lo - zeroPoint, roundHalfEven(x / scale)))
      return e + (x - q * scale) ** 2
    }, 0)
    return { error, zeroPoint, least: (lo - zeroPoint) * scale, most: (hi - zeroPoint) * scale }
  }
  for (const bits of [3, 4, 8])
    for (const values of [hSwish, normal(20000, 6)]) {
      const [even, uneven] = (['symmetric', 'zero-point'] as const).map((f) => square(values, bits, f, 'mse'))
      assert.ok(uneven!.error <= even!.error * 1.001, `${bits} bits: ${uneven!.error}, not ${even!.error}`)
    }
  assert.ok(square(hSwish, 4, 'zero-point', 'mse').error < 0.4 * square(hSwish, 4, 'symmetric', 'mse').error)
  const whole = square(hSwish, 8, 'zero-point', 'max')
  assert.ok(whole.least <= Math.min(...hSwish) && whole.most >= Math.max(...hSwish), 'max clips nothing')
})

test('percentile and entropy clip outliers on either side of zero, in both signed forms', () => {
  const positive = normal(20000, 8).map(Math.abs)
  positive[7] = 40
  const uneven = normal(20000, 9).map((v) => (v < 0 ? v / 10 : v))
  uneven[7] = 40
  for (const values of [positive, positive.map((x) => -x), uneven, uneven.map((x) => -x)])
    for (const signedInputs of ['symmetric', 'zero-point'] as const)
      for (const calibration of ['percentile', 'entropy'] as const) {
        const h = new Histogram()
        h.add(values, 'x')
        const o = { bits: 8, nonNegative: false, signedInputs, calibration, percentile: 99.9 }
        const { scale, zeroPoint } = activationRange(h, o)
        const [lo, hi] = integerRange(8, false)
        const mass = values.filter((x) => x >= (lo - zeroPoint - 0.5) * scale && x <= (hi - zeroPoint + 0.5) * scale)
        const what = `${signedInputs} ${calibration}: ${scale}, ${zeroPoint}`
        assert.ok((hi - lo) * scale < (signedInputs === 'symmetric' ? 2 : 1) * 8, what)
        assert.ok(mass.length >= 0.99 * values.length && mass.length < values.length, `${what}: ${mass.length}`)
      }
})

test('values that are not finite are named', () => {
  assert.throws(() => new Histogram().add(Float32Array.of(1, Number.NaN), 'conv3'), /'conv3' takes non-finite values/)
  assert.throws(() => new Histogram().add(Float32Array.of(1, Number.POSITIVE_INFINITY), 'conv3'), /'conv3'/)
})
