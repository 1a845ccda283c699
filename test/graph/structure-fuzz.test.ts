/** Damaged models that are still protobuf: each is some model, or refused with one model error. See bench/fuzz.ts. */
import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import { dirname } from 'node:path'
import test from 'node:test'
import { Rng } from '../../src/base/rng.ts'
import { tryMutant } from '../support/fuzz-case.ts'
import { mutant } from '../support/mutate.ts'
import { externalZoo, nodeTests, zoo } from './files.ts'

const CASES = 3000
/** Larger files take longer and hold nothing that smaller ones do not. */
const MAX_BYTES = 100_000

test('three thousand mutants of real models', (t) => {
  const sampled = nodeTests().filter((_, i) => i % 9 === 0)
  const files = [...sampled, ...zoo(), ...(externalZoo() ? [`${externalZoo()}/model.onnx`] : [])]
  const corpus = files
    .map((f) => ({ folder: dirname(f), bytes: readFileSync(f) }))
    .filter((f) => f.bytes.length < MAX_BYTES)
  if (corpus.length === 0) return t.skip('files not there')
  const rng = new Rng(7)
  const counts = new Map<string, number>()
  for (let i = 0; i < CASES; i++) {
    const { folder, bytes } = corpus[i % corpus.length]!
    const { bytes: broken, done } = mutant(bytes, corpus[rng.integer(corpus.length)]!.bytes, rng)
    const outcome = tryMutant(broken, folder)
    assert.ok(!outcome.failure, `case ${i} (${done}): ${outcome.failure}`)
    counts.set(outcome.code, (counts.get(outcome.code) ?? 0) + 1)
  }
  t.diagnostic(JSON.stringify(Object.fromEntries([...counts].sort(([, a], [, b]) => b - a))))
  const read = counts.get('read') ?? 0
  assert.ok(read > CASES / 10 && read < (CASES * 9) / 10, `${read} of ${CASES} were still models`)
  assert.ok(counts.size >= 8, 'the mutants meet many kinds of refusal')
})
