import assert from 'node:assert/strict'
import { test } from 'node:test'
import {
  type ChannelForm,
  type ChannelInput,
  channelForm,
  type ReaderLevels,
} from '../../../src/export/weights/integer-bias.ts'
import { noise } from '../nets.ts'

const unsigned: ReaderLevels = { ratio: 1, lo: 0, hi: 15 }

/** Sums whose level differs between the float graph and the integer kernel, by trying every sum. */
function differing(c: ChannelInput, f: ChannelForm): number {
  let wrong = 0
  for (const { ratio, lo, hi } of c.readers) {
    const level = (x: number): number => Math.max(lo, Math.min(hi, Math.round(x / ratio)))
    for (let a = -c.reach; a <= c.reach; a++)
      if (level((a + c.bias) / c.step) !== level((f.multiplier * a + f.bias) / (f.multiplier * f.step))) wrong++
  }
  return wrong
}

test('exact means that every sum gets the level of the float graph; nearly all 4-bit channels are', () => {
  const r = noise(4)
  let exact = 0
  let naive = 0
  const count = 300
  for (let i = 0; i < count; i++) {
    const signed = i % 3 === 0
    const c: ChannelInput = {
      ...{ largest: 7, reach: 1500, bias: 100 * r(), step: 40 + 35 * r() },
      readers: [signed ? { ratio: 1, lo: -8, hi: 7 } : unsigned],
    }
    const form = channelForm(c)
    if (form.exact) {
      exact++
      assert.equal(differing(c, form), 0, JSON.stringify({ c, form }))
    }
    assert.ok(form.multiplier * c.largest <= 64)
    assert.ok(Math.abs(form.step / c.step - 1) < 0.02, `${form.step} for ${c.step}`)
    if (differing(c, { multiplier: 8, bias: Math.round(8 * c.bias), step: c.step, exact: false }) === 0) naive++
  }
  assert.ok(exact >= 0.98 * count, `${exact} of ${count}`)
  assert.ok(naive < 0.8 * count, `rounding the bias alone gets ${naive} of ${count}: this test shows nothing`)
})

test('without a bias, and with thresholds out of reach', () => {
  const readers = [unsigned]
  assert.equal(channelForm({ largest: 8, reach: 900, bias: 0, step: 33.3, readers }).exact, true)
  const far = channelForm({ largest: 0, reach: 0, bias: 0.3, step: 5, readers })
  assert.equal(differing({ largest: 0, reach: 0, bias: 0.3, step: 5, readers }, far), 0)
})

test('two quantisers that read one layer: exact means exact for both, which is rarer', () => {
  const r = noise(5)
  const count = 200
  const exact = { alone: 0, both: 0, fine: 0 }
  for (let i = 0; i < count; i++) {
    const c = { largest: 7, reach: 1500, bias: 100 * r(), step: 40 + 35 * r() }
    const cases = {
      alone: [unsigned],
      both: [unsigned, { ratio: 1 + Math.abs(r()), lo: -8, hi: 7 }],
      fine: [
        { ratio: 1, lo: -103, hi: 152 },
        { ...unsigned, ratio: 9 + r() },
      ],
    }
    for (const [name, readers] of Object.entries(cases) as [keyof typeof cases, ReaderLevels[]][]) {
      const given = { ...c, step: name === 'fine' ? c.step / 9 : c.step, readers }
      const form = channelForm(given)
      if (!form.exact) continue
      exact[name]++
      assert.equal(differing(given, form), 0, JSON.stringify({ given, form }))
    }
  }
  assert.ok(exact.alone > exact.both && exact.both > exact.fine, JSON.stringify(exact))
  assert.ok(exact.both >= 0.8 * count, JSON.stringify(exact))
})
