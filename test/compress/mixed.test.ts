/** Samples that a model knows by heart, mixed in pairs to choose by. */
import assert from 'node:assert/strict'
import test from 'node:test'
import { isByHeart, mixed } from '../../src/compress/mixed.ts'
import type { SampleSource } from '../../src/compress/sample-source.ts'
import { Tensor } from '../../src/graph/tensor.ts'
import type { ElementType } from '../../src/graph/types.ts'

/** Samples of one number each, two to a batch, labelled by their place. */
function source(values: readonly number[], type: ElementType): SampleSource {
  return {
    count: values.length,
    async *batches() {
      for (let i = 0; i < values.length; i += 2) {
        const part = values.slice(i, i + 2)
        const labels = Int32Array.from(part, (_, k) => i + k)
        yield { feeds: { x: Tensor.from(type, [part.length, 1], part) }, labels, count: part.length }
      }
    },
  }
}

for (const type of ['float32', 'float16'] as const)
  test(`a sample of ${type} keeps its label and four fifths of itself`, async () => {
    const got = []
    for await (const { feeds, labels, count } of mixed(source([1, 2, 3], type), source([30, 10, 20], type)).batches())
      got.push({
        x: [...feeds.x!.toFloat32()].map((v) => Number(v.toFixed(2))),
        labels: [...labels!],
        count,
        of: feeds.x!.type,
      })
    assert.deepEqual(got, [
      { x: [6.8, 3.6], labels: [0, 1], count: 2, of: type },
      { x: [6.4], labels: [2], count: 1, of: type },
    ])
  })

test('a model is taken to know by heart what it is right on nearly always', () => {
  assert.deepEqual([null, 0.8, 0.95, 0.96, 1].map(isByHeart), [false, false, false, true, true])
})
