/** Which positions layers' moments are taken from: odd distances, as many as needed, all where nothing is known. */
import assert from 'node:assert/strict'
import test from 'node:test'
import { Graph } from '../../src/graph/graph.ts'
import { Model } from '../../src/graph/model.ts'
import { Tensor } from '../../src/graph/tensor.ts'
import { type WeightLayer, weightLayers } from '../../src/layers/layers.ts'
import { thinPositions } from '../../src/quant/thin-positions.ts'

function model(op: string, data: readonly (number | string)[], weight: readonly number[]): Model {
  const graph = new Graph('one')
  const x = graph.addInput('x', { elem: 'float32', dims: data })
  const b = graph.append()
  const size = weight.reduce((a, c) => a * c, 1)
  graph.addOutput(b.op(op, [x, b.initializer('w', Tensor.float32(weight, new Float32Array(size)))]))
  const made = new Model(graph)
  made.opsets.set('', 21)
  return made
}

const dataOf = (samples: number | undefined) => ({ samples, async *batches() {} })

async function every(of: Model, columns: number, samples: number | undefined): Promise<readonly number[] | undefined> {
  const layers = new Map(weightLayers(of.graph).map((l): [WeightLayer, number] => [l, columns]))
  return [...(await thinPositions(of, layers, dataOf(samples))).values()][0]
}

test('at least 64 rows a column and 8,192 in all stay, from every sample, at odd distances', async () => {
  for (const [height, width, samples, columns] of [
    [32, 32, 384, 9],
    [32, 32, 384, 144],
    [16, 16, 384, 9],
    [8, 8, 384, 576],
    [224, 224, 24, 576],
    [7, 224, 1000, 9],
  ] as const) {
    const found = await every(model('Conv', ['N', 3, height, width], [4, 3, 1, 1]), columns, samples)
    assert.equal(found!.length, 2)
    const rows = samples * Math.ceil(height / found![0]!) * Math.ceil(width / found![1]!)
    const wanted = Math.max(64 * columns, 8192)
    assert.ok(found!.every((k) => k % 2 === 1))
    assert.ok(rows >= Math.min(wanted, samples * height * width), `${rows} of ${wanted}`)
    // two more along each axis would be too few
    assert.ok(found![0] === 1 || rows < wanted * 4.5 || found![0]! >= height / 4 - 2, `${rows} of ${wanted}`)
  }
})

test('rows of tokens; a batch of one position; sizes and numbers of samples that nobody knows', async () => {
  assert.deepEqual(await every(model('MatMul', ['N', 128, 16], [16, 4]), 16, 512), [7])
  assert.deepEqual(await every(model('Gemm', ['N', 16], [16, 4]), 16, 1e6), [])
  assert.deepEqual(await every(model('Conv', ['N', 3, 'H', 'W'], [4, 3, 1, 1]), 9, 1e6), [])
  assert.equal(await every(model('Conv', ['N', 3, 64, 64], [4, 3, 1, 1]), 9, undefined), undefined)
})
