/** Recipes with random parts wrong, run to their end: test/support/recipe-case.ts; bench/fuzz.ts runs many more. */
import assert from 'node:assert/strict'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import test from 'node:test'
import { tryRecipe } from '../support/recipe-case.ts'

const FIRST = Number(process.env.MNC_FUZZ_SEED ?? 0)
const COUNT = 24
/** Seeds outside the range above that once showed a fault. */
const FOUND: readonly number[] = []

test(`random recipes, seeds ${FIRST} to ${FIRST + COUNT - 1}`, async () => {
  const scratch = mkdtempSync(join(tmpdir(), 'mnc-recipe-fuzz-'))
  try {
    const faults: string[] = []
    const codes = new Map<string, number>()
    for (const seed of [...Array.from({ length: COUNT }, (_, i) => FIRST + i), ...FOUND]) {
      const { code, failure } = await tryRecipe(seed, scratch)
      codes.set(code, (codes.get(code) ?? 0) + 1)
      if (failure) faults.push(`seed ${seed}: ${failure}`)
    }
    assert.deepEqual(faults, [])
    assert.ok((codes.get('exit 0') ?? 0) >= 3 && (codes.get('exit 2') ?? 0) >= 3, JSON.stringify([...codes]))
  } finally {
    rmSync(scratch, { recursive: true })
  }
})
