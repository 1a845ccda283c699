import assert from 'node:assert/strict'
import { readdirSync } from 'node:fs'
import test from 'node:test'
import { readPreprocess } from '../../src/data/preprocess.ts'
import type { Model } from '../../src/graph/model.ts'
import { Tensor } from '../../src/graph/tensor.ts'
import { buildNetwork, loadSpec } from '../../src/models/spec.ts'
import { ortExecutor } from '../../src/runtime/ort/ort.ts'

const parameters = (model: Model): number => {
  let n = 0
  for (const v of model.graph.initializers())
    if (v.constant!.type === 'float32' && !/running_|^const_/.test(v.name)) n += v.constant!.size
  return n
}

/** He et al. 2016 (0.27 M and 0.85 M, shortcuts without parameters), LeNet-5, and the networks of the pipeline. */
const published: Readonly<Record<string, number>> = {
  'densenet-bc-100-12.json': 800_032,
  'densenet-bc-172-30.json': 12_232_300,
  'resnet-20.json': 269_722,
  'resnet-56.json': 853_018,
  'lenet.json': 61_706,
}

test('initial weights have the spread that the families promise', () => {
  const { graph } = buildNetwork({ family: 'densenet-bc', depth: 40, growth: 12, classes: 10 }, { seed: 7 })
  const values = (name: string): Float32Array => graph.find(name)!.constant!.toFloat32()
  const std = (x: Float32Array): number => Math.sqrt(x.reduce((s, v) => s + v * v, 0) / x.length)
  const wide = values('block3.layer1.conv1.weight') // [48, Cin, 1, 1]: sqrt(2 / 48)
  assert.ok(Math.abs(std(wide) / Math.sqrt(2 / 48) - 1) < 0.05, `${std(wide)}`)
  const fc = values('fc.weight')
  const limit = 1 / Math.sqrt(fc.length / 10)
  assert.ok(fc.every((v) => Math.abs(v) <= limit) && fc.some((v) => Math.abs(v) > 0.95 * limit))
  assert.ok(values('bn.weight').every((v) => v === 1) && values('bn.bias').every((v) => v === 0))
})

test('a seed decides the weights', () => {
  const spec = { family: 'lenet' }
  const weight = (seed: number | null) => buildNetwork(spec, { seed }).graph.find('conv2.weight')!.constant!
  assert.ok(weight(3).equals(weight(3)))
  assert.ok(!weight(3).equals(weight(4)))
  // without one, the same graph with zeros
  const zeros = weight(null)
  assert.ok(zeros.toFloat32().every((v) => v === 0) && zeros.dims.join() === weight(3).dims.join())
})

test('every spec in models/ builds, has the published size, and carries its preprocessing', async () => {
  const counts: Record<string, number> = {}
  for (const file of readdirSync('models').filter((f) => f.endsWith('.json'))) {
    const spec = await loadSpec(`models/${file}`).catch(() => null)
    if (!spec) continue
    const model = buildNetwork(spec)
    if (file in published) counts[file] = parameters(model)
    const { mean, size } = readPreprocess(model)!
    assert.deepEqual(mean, spec.mean)
    assert.deepEqual(['N', mean.length, ...size], model.graph.inputs[0]!.type!.dims)
    assert.deepEqual(model.graph.outputs[0]!.type!.dims, ['N', spec.classes])
  }
  assert.deepEqual(counts, published)
})

/** As torchvision counts them, with 1000 classes. */
const ofMobile: Readonly<Record<string, number>> = {
  'mobilenet-v2': 3_504_872,
  'mobilenet-v3-small': 2_542_856,
  'shufflenet-v2': 2_278_604,
  'efficientnet-b0': 5_288_548,
}

for (const [family, count] of Object.entries(ofMobile))
  test(`${family} has the published size, and runs on small images`, async () => {
    assert.equal(parameters(buildNetwork({ family, classes: 1000, size: 224, reduction: 32 })), count)
    const model = buildNetwork({ family, classes: 10 })
    const session = await ortExecutor().load(model)
    const pixels = Float32Array.from({ length: 2 * 3 * 1024 }, (_, i) => ((i * 7919) % 101) / 50 - 1)
    const out = await session.run({ input: Tensor.float32([2, 3, 32, 32], pixels) })
    await session.dispose()
    assert.deepEqual(out.logits!.dims, [2, 10])
    assert.ok(out.logits!.view('float32').every(Number.isFinite))
    // the last feature map of a 32x32 image has 4x4 positions, of the paper's network one
    const { graph } = model
    const pooled = [...graph.nodes()]
      .filter((n) => n.is('GlobalAveragePool'))
      .at(-1)!
      .input(0)
    graph.addOutput(pooled)
    const again = await ortExecutor().load(model)
    const maps = await again.run({ input: Tensor.float32([2, 3, 32, 32], pixels) })
    await again.dispose()
    assert.deepEqual(maps[pooled.name]!.dims.slice(2), [4, 4])
  })

test('bad specs are refused with what is wrong', async () => {
  const message = (pattern: RegExp) => ({ name: 'MncError', blame: 'user', message: pattern })
  await assert.rejects(loadSpec('densenet-bc-100-13'), message(/did you mean 'densenet-bc-100-12'/))
  await assert.rejects(loadSpec('package.json'), message(/"family"/))
  assert.throws(() => buildNetwork({ family: 'densnet-bc' }), message(/did you mean 'densenet-bc'/))
  assert.throws(() => buildNetwork({ family: 'densenet-bc', growht: 3 }), message(/'growht', did you mean 'growth'/))
  assert.throws(() => buildNetwork({ family: 'densenet-bc', depth: 41 }), message(/6 n \+ 4/))
  assert.throws(() => buildNetwork({ family: 'resnet', shortcut: 'C' }), message(/--shortcut must be one of A, B/))
  assert.throws(
    () => buildNetwork({ family: 'mobilenet-v2', reduction: 12 }),
    message(/--reduction 12 is not a power of 2/),
  )
  assert.throws(() => buildNetwork({ family: 'lenet', mean: [0, 0], std: [1, 1] }), message(/each of the 1 channels/))
})
