/**
 * Activation steps by entropy and least squared error where a few values are far beyond the others, against searches on the
 * values themselves that know no bins of equal ratio.
 */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { Rng } from '../../src/base/rng.ts'
import { activationRange } from '../../src/quant/activation-range.ts'
import { activationScale, Histogram } from '../../src/quant/histogram.ts'
import { quantizeValue } from '../../src/quant/quantizer.ts'

type Draw = (rng: Rng) => number
const distributions: Readonly<Record<string, Draw>> = {
  normal: (rng) => rng.normal(),
  'behind a ReLU': (rng) => Math.max(0, rng.normal()),
  uniform: (rng) => rng.uniform(-3, 5),
  Laplace: (rng) => Math.log(Math.max(1e-9, rng.uniform())) * (rng.chance(0.5) ? 1 : -1),
  tiny: (rng) => rng.normal() * 1e-20,
}
const ranges = [
  [0, 15],
  [-8, 7],
  [-128, 127],
] as const

function drawn(draw: Draw, seed: number, count: number): Float32Array {
  const rng = new Rng(seed, 31)
  return Float32Array.from({ length: count }, () => draw(rng))
}

function histogramOf(values: Float32Array): Histogram {
  const h = new Histogram()
  h.add(values, 'x')
  return h
}

/** With outliers at a few places. */
function spoilt(values: Float32Array, outliers: readonly number[], seed: number): Float32Array {
  const rng = new Rng(seed, 32)
  const out = values.slice()
  for (const v of outliers) out[rng.integer(out.length)] = v
  return out
}

/** KL(P || Q) of magnitudes clipped at `end` of the bins, straight from the definition. */
function divergence(bins: Float64Array, outside: number, end: number, levels: number): number {
  const own = bins.slice(0, end)
  const p = own.slice()
  p[end - 1]! += outside + bins.subarray(end).reduce((a, n) => a + n, 0)
  const [all, inside] = [p, own].map((a) => a.reduce((x, n) => x + n, 0)) as [number, number]
  let kl = 0
  for (let level = 0; level < levels; level++) {
    const [from, to] = [Math.floor((level * end) / levels), Math.floor(((level + 1) * end) / levels)]
    const part = own.subarray(from, to)
    const [mass, used] = [part.reduce((a, n) => a + n, 0), part.filter((n) => n > 0).length]
    for (let i = from; i < to; i++) {
      if (p[i] === 0) continue
      const q = own[i]! > 0 ? mass / used / inside : (1e-9 * all) / inside
      kl += (p[i]! / all) * Math.log(p[i]! / all / q)
    }
  }
  return kl
}

for (const [name, draw] of Object.entries(distributions)) {
  test(`entropy, ${name}: as good as the best clipping point of the values themselves`, () => {
    for (const outliers of [[1e30], [-3e38, 7e12], [1e6]]) {
      const values = drawn(draw, outliers.length, 100_000)
      const largest = values.reduce((m, v) => Math.max(m, Math.abs(v)), 0)
      const bins = new Float64Array(2048)
      for (const v of values) if (v !== 0) bins[Math.min(2047, Math.floor((Math.abs(v) * 2048) / largest))]!++
      const h = histogramOf(spoilt(values, outliers, 1))
      for (const [lo, hi] of ranges) {
        const levels = Math.max(hi + 1, -lo)
        let best = Number.POSITIVE_INFINITY
        for (let end = levels; end <= 2048; end += 17)
          best = Math.min(best, divergence(bins, outliers.length, end, levels))
        const scale = activationScale(h, lo, hi, 'entropy')
        const end = Math.round((scale * hi * 2048) / largest)
        const where = `${lo}..${hi}, ${outliers}: up to ${scale * hi}, largest ${largest}`
        assert.ok(end >= levels && end <= 1.01 * 2048, where)
        const own = divergence(bins, outliers.length, Math.min(2048, end), levels)
        // of 100,000 values the divergence is known to about as much as there are bins for two of them
        assert.ok(own <= best + 2048 / 200_000, `${where}: ${own}, not ${best}`)
      }
    }
  })

  test(`least squared error, ${name}: that of the best of many steps on the values`, () => {
    for (const [seed, outliers] of [[], [1e30], [300], [-2000, 40]].entries())
      for (const [lo, hi] of ranges) {
        const values = spoilt(drawn(draw, seed, 4_000), outliers, seed)
        const error = (s: number): number =>
          values.reduce((sum, v) => sum + (v - quantizeValue(v, s, lo, hi) * s) ** 2, 0)
        const h = histogramOf(values)
        const top = Math.max(h.max / hi, lo < 0 ? h.min / lo : 0)
        let best = error(Math.fround(top))
        const least = drawn(draw, seed, 2000).reduce((m, v) => Math.max(m, Math.abs(v)), 0) / hi / 50
        for (let s = least; s < top; s *= top > 1e6 * least ? 1.5 : 1.02) best = Math.min(best, error(Math.fround(s)))
        const scale = activationScale(h, lo, hi, 'mse')
        assert.ok(error(scale) <= 1.02 * best, `${lo}..${hi}, ${outliers}: ${scale} gives ${error(scale)}, not ${best}`)
      }
  })
}

test('ordinary values: bins up to the next power of two, as many as there were values', () => {
  for (const draw of Object.values(distributions)) {
    const values = drawn(draw, 3, 5000)
    const { range, positive, negative } = histogramOf(values).view()
    const largest = values.reduce((m, v) => Math.max(m, Math.abs(v)), 0)
    assert.ok(range > largest && range <= 2 * largest)
    for (const [side, sign] of [
      [positive, 1],
      [negative, -1],
    ] as const) {
      const bins = new Float64Array(4096)
      for (const v of values) if (v * sign > 0) bins[Math.floor((v * sign * 4096) / range)]!++
      assert.deepEqual(side.bins, bins)
      assert.deepEqual(side.beyond, [])
      // of counts, of their values and of the values' squares
      for (const [power, sums] of side.sums.entries()) {
        const whole = bins.reduce((sum, n, i) => sum + n * (((i + 0.5) * range) / 4096) ** power, 0)
        assert.ok(Math.abs(sums[4096]! - whole) <= 1e-9 * whole)
      }
    }
  }
})

test('a few values, most of them zeros, and nothing but an outlier', () => {
  for (const values of [
    [0, 0, 0, 1e30],
    [1e30],
    [1, 1e30],
    [...Array<number>(999).fill(0), 1],
    [0.5, -0.25, 0.125, 1e30],
  ])
    for (const calibration of ['entropy', 'mse', 'percentile', 'max'] as const)
      for (const signedInputs of ['symmetric', 'zero-point'] as const) {
        const h = histogramOf(Float32Array.from(values))
        const o = { bits: 8, nonNegative: false, signedInputs, calibration, percentile: 99.99 }
        const { scale, zeroPoint } = activationRange(h, o)
        assert.ok(Number.isFinite(scale) && scale > 0 && Number.isInteger(zeroPoint), `${values}: ${scale}`)
      }
  const few = Float32Array.of(0.5, -0.25, 0.125, 1e30)
  assert.ok(activationScale(histogramOf(few), -128, 127, 'entropy') < 0.3)
})
