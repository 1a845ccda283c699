/** Samples that a run looks at, by the size of the network. */
import assert from 'node:assert/strict'
import test from 'node:test'
import { heldFor, limitFor } from '../../src/compress/how-many.ts'

test('networks that take long for a sample are given fewer of them, but enough', () => {
  // ResNet-20, FastestDet, ResNet-50
  assert.deepEqual([41e6, 122e6, 4.1e9].map(limitFor), [512, 393, 128])
  assert.deepEqual([41e6, 122e6, 4.1e9].map(heldFor), [5000, 5000, 487])
  assert.equal(heldFor(1e12), 200)
})

test('where the work is not known, or nothing, they are given as many as any', () => {
  for (const macs of [null, 0]) assert.deepEqual([limitFor(macs), heldFor(macs)], [512, 5000])
})
