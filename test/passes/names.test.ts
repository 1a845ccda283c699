/** Layers are told apart by what they are, not by their names. */
import assert from 'node:assert/strict'
import test from 'node:test'
import { Rng } from '../../src/base/rng.ts'
import { parseModel } from '../../src/codec/text-parse.ts'
import type { Model } from '../../src/graph/model.ts'
import { type WeightLayer, weightLayers } from '../../src/layers/layers.ts'
import { recomputeMasks } from '../../src/passes/insert-prune-mask.ts'
import { runPass as pass } from '../../src/passes/run-pass.ts'

/** A graph with random weights `<name>.w` for 1x1 convolutions. */
function network(body: string, convs: Readonly<Record<string, readonly [outputs: number, inputs: number]>>): Model {
  const rng = new Rng(4)
  const weights = Object.entries(convs).map(([name, [o, i]]) => {
    const values = Array.from({ length: o * i }, () => rng.uniform(-1, 1).toFixed(3))
    return `  init %${name}.w = float32[${o},${i},1,1] [${values.join(', ')}]`
  })
  return parseModel(`onnx {ir_version=10}
opset ai.onnx=21
graph "g"
  input %x : float32[1,8,2,2]
${weights.join('\n')}
${body}
end
`)
}

const kept = ({ mask }: WeightLayer): number => {
  const values = mask!.constant!.toFloat32()
  return values.reduce((sum, x) => sum + x, 0) / values.length
}

test('two layers of one name are pruned each for itself', async () => {
  const body = '  %h = Conv(%x, %a.w) #name "conv"\n  %y = Conv(%h, %b.w) #name "conv"\n  output %y'
  for (const options of [
    { sparsity: 0.5, scope: 'layer' },
    { pattern: '2:4' },
    { pattern: 'channel', scope: 'layer' },
  ] as const) {
    const model = network(body, { a: [8, 8], b: [16, 8] })
    await pass(model, 'prune', { sparsity: 0.5, ...options })
    const layers = weightLayers(model.graph)
    assert.deepEqual(layers.map(kept), [0.5, 0.5])
    const again = recomputeMasks(layers, (l) => l.tensor.toFloat32())
    for (const l of layers) assert.deepEqual(again.get(l), l.mask!.constant!.toFloat32())
  }
})

test('a whole name wins over a glob, also one that is an integer', async () => {
  const body = '  %h = Conv(%x, %a.w) #name "7"\n  %y = Conv(%h, %b.w) #name "12"\n  output %y'
  const model = network(body, { a: [8, 8], b: [16, 8] })
  await pass(model, 'quantize', { activationBits: 0, layerWeightBits: { '*': 4, '12': 8 } })
  assert.deepEqual(
    weightLayers(model.graph).map((l) => l.quant?.bits),
    [4, 8],
  )
})

test('channels pruned together in one run stay apart from those of another', async () => {
  const model = network(
    `  %a = Conv(%x, %a.w) #name "a"
  %b = Conv(%x, %b.w) #name "b"
  %s = Add(%a, %b)
  %c = Conv(%s, %c.w) #name "c"
  %d = Conv(%s, %d.w) #name "d"
  %t = Add(%c, %d)
  %y = Conv(%t, %e.w) #name "e"
  output %y`,
    { a: [8, 8], b: [8, 8], c: [8, 8], d: [8, 8], e: [4, 8] },
  )
  for (const only of [
    ['a', 'b'],
    ['c', 'd'],
  ])
    await pass(model, 'prune', { pattern: 'channel', sparsity: 0.5, only })
  const masked = weightLayers(model.graph).filter((l) => l.mask)
  const again = recomputeMasks(masked, (l) => l.tensor.toFloat32())
  for (const l of masked) assert.deepEqual(again.get(l), l.mask!.constant!.toFloat32(), l.name)
  const { changed } = await pass(model, 'prune', { pattern: 'channel', sparsity: 0.5, only: ['a', 'b'] })
  assert.equal(changed, false)
})
