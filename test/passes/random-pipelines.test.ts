/** Random models through random passes and all exports: test/support/graph-case.ts; bench/fuzz.ts runs many more. */
import assert from 'node:assert/strict'
import test from 'node:test'
import { tryGraph } from '../support/graph-case.ts'

const FIRST = Number(process.env.MNC_FUZZ_SEED ?? 0)
const COUNT = 300
const PARTS = 10
/** Seeds outside the range above that once showed a fault. */
const FOUND: readonly number[] = [350, 775, 1035, 1498, 4368, 6584, 7032, 8578, 14711, 18760, 20091]

const range = (from: number, count: number): number[] => Array.from({ length: count }, (_, i) => from + i)
const parts = Array.from({ length: PARTS }, (_, k) => range(FIRST + (k * COUNT) / PARTS, COUNT / PARTS))

for (const seeds of [...parts, ...(FOUND.length > 0 ? [FOUND] : [])])
  test(`passes in random order and every export, seeds ${seeds[0]} to ${seeds.at(-1)}`, async () => {
    const faults: string[] = []
    let applied = 0
    for (const seed of seeds) {
      const outcome = await tryGraph(seed)
      applied += outcome.steps.length
      for (const fault of outcome.faults) faults.push(`seed ${seed} (${outcome.steps.join(' | ')}): ${fault}`)
    }
    assert.deepEqual(faults, [])
    assert.ok(applied >= seeds.length, `only ${applied} passes did anything`)
  })
