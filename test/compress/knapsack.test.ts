/** The split of a budget against every split there is, on random instances. */
import assert from 'node:assert/strict'
import test from 'node:test'
import fc from 'fast-check'
import { Rng } from '../../src/base/rng.ts'
import { type Choice, splitBudget } from '../../src/compress/knapsack.ts'

/** Least damage of all splits that fit, by trying them all; null where none fits. */
function byTrying(layers: readonly (readonly Choice[])[], budget: number): number | null {
  const best = (i: number, left: number): number => {
    if (left < 0) return Number.POSITIVE_INFINITY
    if (i === layers.length) return 0
    return Math.min(...layers[i]!.map((c) => c.damage + best(i + 1, left - c.cost)))
  }
  const found = best(0, budget)
  return Number.isFinite(found) ? found : null
}

const choice = fc.record({ cost: fc.integer({ min: 0, max: 30 }), damage: fc.double({ min: 0, max: 5, noNaN: true }) })
const instance = fc.record({
  layers: fc.array(fc.array(choice, { minLength: 1, maxLength: 5 }), { minLength: 1, maxLength: 6 }),
  budget: fc.integer({ min: 0, max: 120 }),
})

test('a split has the least damage of all that fit, as trying them all finds it', () => {
  fc.assert(
    fc.property(instance, ({ layers, budget }) => {
      const split = splitBudget(layers, budget)
      const least = byTrying(layers, budget)
      assert.equal(split === null, least === null)
      if (!split || least === null) return
      const taken = split.chosen.map((k, i) => layers[i]![k]!)
      assert.equal(taken.length, layers.length)
      const sum = (of: (c: Choice) => number): number => taken.reduce((s, c) => s + of(c), 0)
      assert.equal(
        split.cost,
        sum((c) => c.cost),
      )
      assert.ok(split.cost <= budget)
      assert.ok(Math.abs(split.damage - sum((c) => c.damage)) < 1e-9)
      assert.ok(Math.abs(split.damage - least) < 1e-9, `${split.damage} against ${least}`)
      assert.ok(split.isExact && split.bound === split.damage)
    }),
    { numRuns: 1000 },
  )
})

test('equal costs and damages, as of layers of the same shape, are split as well', () => {
  const same = [0, 1, 2].map((k) => ({ cost: k, damage: 4 - 2 * k }))
  const split = splitBudget([same, same, same, same], 5)!
  assert.equal(split.damage, 4 * 4 - 2 * 5)
  assert.equal(splitBudget([same], -1), null)
})

test('a hundred layers of five widths are split at once, exactly', () => {
  const rng = new Rng(7)
  const layers = Array.from({ length: 100 }, () => {
    const weights = 100 + rng.integer(200_000)
    const care = Math.exp(rng.normal(0, 2))
    return [2, 3, 4, 6, 8].map((bits) => ({ cost: Math.ceil((weights * bits) / 8), damage: care * 4 ** -bits }))
  })
  const all = layers.reduce((s, l) => s + l.at(-1)!.cost, 0)
  for (const share of [0.3, 0.45, 0.7, 0.95]) {
    const split = splitBudget(layers, Math.floor(all * share))!
    assert.ok(split.isExact)
    assert.ok(split.cost <= all * share)
  }
})
