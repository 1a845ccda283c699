/** Files for a number of bytes, where what they will take is only foreseen. */
import assert from 'node:assert/strict'
import test from 'node:test'
import type { Candidate } from '../../src/compress/candidate.ts'
import { ForSize } from '../../src/compress/for-size.ts'
import type { Point } from '../../src/compress/point.ts'

/** Foresees what is asked for in steps of `step` bytes; files take `more` beyond. */
function sized({ step = 1, more, fails = false }: { step?: number; more(bytes: number): number; fails?: boolean }) {
  const made: number[] = []
  const plan = async (most: number) => {
    const bytes = Math.floor(most / step) * step
    const candidate: Candidate = { name: `of-${bytes}`, summary: '', options: { limit: bytes } }
    return bytes > 0 ? { candidate, bytes } : null
  }
  const make = async ({ options }: Candidate): Promise<Point | null> => {
    const bytes = Number(options.limit)
    made.push(bytes + more(bytes))
    return fails ? null : ({ bytes: bytes + more(bytes) } as Point)
  }
  return { way: new ForSize(plan, make), made }
}

test('a file that comes out larger or smaller than foreseen is made again until it fits', async () => {
  for (const share of [0.07, 0.15, -0.1]) {
    const { way, made } = sized({ more: (bytes) => Math.round(share * bytes) })
    const { bytes } = (await way.atMost(10_000, 3))!
    assert.ok(bytes <= 10_000 && bytes >= 9_700, `${bytes} of 10,000, ${share} more than foreseen`)
    assert.ok(made.length > 1 && made.length <= 3)
  }
})

test('what is learnt of one size serves the next', async () => {
  const { way, made } = sized({ more: () => 700 })
  assert.equal((await way.atMost(10_000, 1))!.bytes, 10_700)
  assert.equal((await way.atMost(8_000, 1))!.bytes, 8_000)
  assert.equal(made.length, 2)
})

test('the largest that fits, else the smallest; nothing where nothing new can be made', async () => {
  const coarse = sized({ step: 4_000, more: () => 100 })
  assert.equal((await coarse.way.atMost(9_000, 3))!.bytes, 8_100)
  // the same plan again would be the same file
  assert.deepEqual(coarse.made, [8_100])
  assert.equal(await coarse.way.atMost(9_000, 3), null)
  const large = sized({ step: 1_000, more: () => 20_000 })
  assert.equal((await large.way.atMost(10_000, 3))!.bytes, 30_000)
  assert.equal(await sized({ more: () => 0, fails: true }).way.atMost(10_000, 3), null)
  assert.equal(await sized({ step: 100, more: () => 0 }).way.atMost(99, 3), null)
})
