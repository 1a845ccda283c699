/** Percentiles of a stream, against those of the sorted numbers, however extreme a few of them are. */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { Rng } from '../../src/base/rng.ts'
import { activationScale, Histogram } from '../../src/quant/histogram.ts'

/** The smallest magnitude that as many values do not exceed. */
function exact(values: Float32Array, percentile: number): number {
  const sorted = values.map(Math.abs).sort()
  const at = Math.ceil((values.length * percentile) / 100)
  return sorted.subarray(Math.max(1, at) - 1).find((v) => v > 0) ?? 0
}

type Draw = (rng: Rng) => number
const distributions: Readonly<Record<string, Draw>> = {
  normal: (rng) => rng.normal(),
  'behind a ReLU': (rng) => Math.max(0, rng.normal()),
  uniform: (rng) => rng.uniform(-3, 5),
  'of many sizes': (rng) => rng.normal() * 10 ** rng.uniform(-6, 6),
  tiny: (rng) => rng.normal() * 1e-30,
  subnormal: (rng) => rng.normal() * 1e-41,
}

for (const [name, draw] of Object.entries(distributions))
  test(`${name}, with and without outliers, in batches of any size`, () => {
    for (let seed = 0; seed < 12; seed++) {
      const rng = new Rng(seed, 21)
      const values = Float32Array.from({ length: 20_000 }, () => draw(rng))
      const outliers = [[], [1e30], [-3e38, 7e12], [1e30, 1e30, -1e20, 1e6, -1e35]][seed % 4]!
      for (const v of outliers) values[rng.integer(values.length)] = v
      const h = new Histogram()
      for (let at = 0; at < values.length; ) {
        const n = 1 + rng.integer(6000)
        h.add(values.slice(at, at + n), 'x')
        at += n
      }
      for (const percentile of [50, 90, 99, 99.9]) {
        const wanted = exact(values, percentile)
        const given = h.magnitudeAt(percentile)
        const where = `seed ${seed}, ${percentile} %: ${given} for ${wanted}`
        // subnormal numbers have fewer mantissa bits
        assert.ok(given >= wanted && given <= wanted * (1 + 2 ** -10) + 2 ** -136, where)
        if (wanted < 2 ** -120) continue
        for (const [lo, hi] of [
          [-8, 7],
          [-128, 127],
        ] as const) {
          const scale = activationScale(h, lo, hi, 'percentile', percentile)
          assert.ok(scale <= (wanted * 1.002) / hi, `${where}, step ${scale}`)
          const reach = Math.min(h.max / hi, wanted / hi)
          assert.ok(scale >= reach * 0.998, `${where}, step ${scale}`)
        }
      }
    }
  })

test('all zeros, and 100 %', () => {
  const h = new Histogram()
  h.add(new Float32Array(10), 'x')
  assert.equal(h.magnitudeAt(99), 0)
  h.add(Float32Array.of(1e-3, -2.5), 'x')
  assert.equal(h.magnitudeAt(100), 2.5)
  assert.ok(Math.abs(h.magnitudeAt(10) - 1e-3) < 2e-6)
})
