/** A hundred random data sets, valid and broken; bench/fuzz.ts tries thousands. */
import assert from 'node:assert/strict'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, test } from 'node:test'
import { tryDataset } from '../support/dataset-case.ts'

const skip = (await import('sharp').catch(() => null)) ? false : 'the optional decoder sharp is not installed'
const scratch = mkdtempSync(join(tmpdir(), 'mnc-datasets-'))
after(() => rmSync(scratch, { recursive: true }))

test('random data sets are measured over all their images or refused by one line', { skip }, async () => {
  const codes = new Map<string, number>()
  const faults: string[] = []
  for (let seed = 0; seed < 100; seed++) {
    const { code, failure } = await tryDataset(seed, scratch)
    codes.set(code, (codes.get(code) ?? 0) + 1)
    if (failure !== undefined) faults.push(`seed ${seed}, ${failure}`)
  }
  assert.ok(faults.length === 0, faults.join('\n'))
  assert.equal(codes.size, 10, 'each kind, measured and refused')
})
