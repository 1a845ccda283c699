/** Whole networks made smaller: outputs in onnxruntime stay, work goes down, training and quantising still work. */
import assert from 'node:assert/strict'
import test from 'node:test'
import { modelInfo } from '../../src/analysis/model-info.ts'
import { MncError } from '../../src/base/errors.ts'
import { Rng } from '../../src/base/rng.ts'
import { graphAttribute } from '../../src/graph/attribute.ts'
import { cloneModel } from '../../src/graph/clone.ts'
import { Graph, type Value } from '../../src/graph/graph.ts'
import { Model } from '../../src/graph/model.ts'
import { Tensor } from '../../src/graph/tensor.ts'
import { elementTypes } from '../../src/graph/types.ts'
import { weightLayers } from '../../src/layers/layers.ts'
import { NetworkBuilder } from '../../src/models/layers.ts'
import { buildNetwork } from '../../src/models/spec.ts'
import { recomputeMasks } from '../../src/passes/insert-prune-mask.ts'
import { checkChannels } from '../../src/passes/remove-channels/channel-check.ts'
import { decideChannels, liftModel } from '../../src/passes/remove-channels/channel-decision.ts'
import { channelSamples } from '../../src/passes/remove-channels/channel-samples.ts'
import { shrinkModel } from '../../src/passes/remove-channels/shrink-model.ts'
import { runPass as pass } from '../../src/passes/run-pass.ts'
import { randomBatches, relativeError, runModel } from './golden.ts'

/** A network whose normalisations are as after training: dead channels become constants that are not 0. */
function lived(spec: Parameters<typeof buildNetwork>[0]): Model {
  const model = buildNetwork(spec, { seed: 3 })
  const rng = new Rng(7)
  for (const v of model.graph.initializers())
    if (v.constant?.dims.length === 1 && v.constant.type === 'float32') {
      const draw = Float32Array.from({ length: v.constant.size }, () => rng.uniform(0.1, 1))
      v.setConstant(Tensor.float32(v.constant.dims, draw))
    }
  return model
}

const networks = {
  'densenet-bc': { family: 'densenet-bc', depth: 10, growth: 4, size: 8, classes: 10 },
  resnet: { family: 'resnet', depth: 8, size: 8, classes: 10 },
  lenet: { family: 'lenet', size: 12 },
} as const

for (const [name, spec] of Object.entries(networks))
  for (const bits of [32, 4])
    test(`${name}, weights of ${bits} bits: half the channels go, the outputs stay`, async () => {
      const model = lived(spec)
      await pass(model, 'prune', { pattern: 'channel', sparsity: 0.5, scope: 'layer' })
      if (bits < 32) await pass(model, 'quantize', { weightBits: bits }, { calibration: randomBatches(model, 2) })
      const before = cloneModel(model)
      const { changed } = await pass(model, 'remove-channels')
      assert.ok(changed)
      assert.ok(relativeError(await runModel(before), await runModel(model)) < 1e-5)
      const [was, is] = [await modelInfo(before, { bytes: 0 }), await modelInfo(model, { bytes: 0 })]
      // constants that reach padded convolutions with quantised weights keep their channels
      const least = bits < 32 ? 0.85 : 0.8
      assert.ok(is.macs! < least * was.macs! && is.parameters < was.parameters, `${is.macs} of ${was.macs}`)
      assert.equal((await pass(model, 'remove-channels')).changed, false)
    })

test('masks of what is removed are removed too; those of layers where zero channels stay say how many', async () => {
  const model = lived(networks.resnet)
  await pass(model, 'prune', { pattern: 'channel', sparsity: 0.5, scope: 'layer' })
  await pass(model, 'remove-channels')
  for (const l of weightLayers(model.graph).filter((x) => x.maskNode)) {
    const values = l.mask!.constant!.toFloat32()
    const share = values.filter((x) => x === 0).length / values.length
    assert.ok(share > 0, l.name)
    assert.equal(Number(l.maskNode!.metadata.get('mnc.sparsity')), share)
  }
})

test('tied channels are pruned together, so that all of them can go', async () => {
  const net = new NetworkBuilder(new Rng(5))
  const b = net.model.graph.append()
  let x = net.relu(net.conv(net.input({ channels: 3, size: 8 }), 'stem', 8, { kernel: 3 }), 'relu0')
  for (const k of [1, 2]) {
    const inner = net.relu(net.conv(x, `block${k}.a`, 8, { kernel: 3 }), `relu${k}`)
    const other = net.conv(inner, `block${k}.b`, 8, { kernel: 1 })
    x = { ...x, value: b.op('Add', [x.value, other.value], {}, { name: `add${k}` }) }
  }
  const model = net.output(net.linear(net.globalAveragePool(x, 'pool'), 'fc', 3, 'logits'))
  await pass(model, 'prune', { pattern: 'channel', sparsity: 0.5, scope: 'layer' })
  const masks = weightLayers(model.graph).flatMap((l) => (l.mask ? [{ l, mask: l.mask.constant!.toFloat32() }] : []))
  const dead = (name: string): string => {
    const { mask, l } = masks.find((m) => m.l.name === name)!
    const inner = mask.length / 8
    assert.equal(l.tensor.dims[0], 8)
    return Array.from({ length: 8 }, (_, c) => mask[c * inner]).join('')
  }
  assert.equal(dead('stem').replaceAll('0', '').length, 4)
  for (const name of ['block1.b', 'block2.b']) assert.equal(dead(name), dead('stem'))
  assert.notEqual(dead('block1.a'), dead('stem'))
  const again = recomputeMasks(weightLayers(model.graph), (l) => l.tensor.toFloat32())
  for (const { l, mask } of masks) assert.deepEqual([...again].find(([m]) => m.name === l.name)![1], mask)
  const before = cloneModel(model)
  const { declined } = await pass(model, 'remove-channels')
  assert.deepEqual(declined, [])
  for (const l of weightLayers(model.graph).filter((w) => w.node.op === 'Conv'))
    assert.equal(l.tensor.dims[0], 4, l.name)
  assert.ok(relativeError(await runModel(before), await runModel(model)) < 1e-5)
})

/** x -> conv (half its channels dead) -> batch norm -> padded conv -> pool -> fc, all outputs about `size`. */
function tail(size: number): Model {
  const rng = new Rng(2)
  const graph = new Graph('tail')
  const b = graph.append()
  const constant = (name: string, dims: number[], dead = 0, scale = 1): Value => {
    const inner = dims.slice(1).reduce((p, d) => p * d, 1)
    const draw = (_: unknown, i: number): number => (i < dead * inner ? 0 : rng.uniform(0.1, 1) * scale)
    return graph.addInitializer(name, Tensor.float32(dims, Float32Array.from({ length: dims[0]! * inner }, draw)))
  }
  const x = graph.addInput('x', { elem: 'float32', dims: ['N', 3, 5, 5] })
  const a = b.op('Conv', [x, constant('a.w', [8, 3, 3, 3], 4)], { pads: [1, 1, 1, 1] }, { name: 'a' })
  const parameters = ['gamma', 'beta', 'mean', 'var'].map((n) => constant(n, [8]))
  const bn = b.op('BatchNormalization', [a, ...parameters], {}, { name: 'bn' })
  const c = b.op('Conv', [bn, constant('c.w', [6, 8, 3, 3], 2)], { pads: [1, 1, 1, 1] }, { name: 'c' })
  const flat = b.op('Flatten', [b.op('GlobalAveragePool', [b.op('Relu', [c])])])
  const y = b.op('MatMul', [flat, constant('fc.w', [6, 4], 0, size)], {}, { name: 'y' })
  graph.addOutput(y)
  return new Model(graph, 21)
}

for (const size of [1, 1e-20, 1e-36, 1e12])
  test(`outputs of about ${size}: the check passes what rounding explains, and nothing else`, async () => {
    const model = tail(size)
    const samples = await channelSamples(model)
    const decision = await decideChannels(model, samples)
    assert.ok(decision.plan.removed >= 5)
    const smaller = async (): Promise<Model> => {
      const copy = cloneModel(model)
      await liftModel(copy)
      shrinkModel(copy, decision)
      return copy
    }
    await checkChannels(await smaller(), decision, samples.check)
    // one weight or bias off by a thousandth, in any of the nodes that became smaller
    for (const v of (await smaller()).graph.initializers()) {
      if (v.constant!.type !== 'float32') continue
      const spoilt = await smaller()
      const values = Float32Array.from(v.constant!.toFloat32())
      values[0] = values[0]! * 1.001
      spoilt.graph.find(v.name)!.setConstant(Tensor.float32(v.constant!.dims, values))
      if (values[0] === v.constant!.toFloat32()[0]) continue
      await assert.rejects(checkChannels(spoilt, decision, samples.check), (e: unknown) => {
        assert.ok(e instanceof MncError && e.blame === 'model', String(e))
        assert.match(e.message, /times what rounding explains/)
        return true
      })
    }
  })

/** What is left and why, for a network that `make` ends: x -> conv 'a' with dead channels -> relu -> what `make` adds. */
async function leftBy(make: (graph: Graph, map: Value, weight: Value) => Value | readonly Value[]) {
  const rng = new Rng(8)
  const graph = new Graph('left')
  const w = Float32Array.from({ length: 6 * 3 }, (_, i) => (i < 9 ? 0 : rng.uniform(-1, 1)))
  const weight = graph.addInitializer('a.w', Tensor.float32([6, 3, 1, 1], w))
  const x = graph.addInput('x', { elem: 'float32', dims: [3, 3, 4, 4] })
  const map = graph.append().op('Relu', [graph.append().op('Conv', [x, weight], {}, { name: 'a' })], {}, { name: 'r' })
  for (const v of [make(graph, map, weight)].flat()) graph.addOutput(v)
  const model = new Model(graph, 21)
  const before = cloneModel(model)
  const { changed, declined } = await pass(model, 'remove-channels')
  for (const seed of [1, 2])
    for (const level of ['disabled', 'all'] as const)
      assert.ok(relativeError(await runModel(before, seed), await runModel(model, seed, level)) < 1e-6)
  return { changed, reasons: declined.map((d) => d.reason).join('\n') }
}

const next = (graph: Graph, map: Value): Value => {
  const draw = Float32Array.from({ length: 12 }, (_, i) => i / 12 - 0.4)
  return graph
    .append()
    .op('Conv', [map, graph.addInitializer('n.w', Tensor.float32([2, 6, 1, 1], draw))], {}, { name: 'y' })
}

test('channels that a body reads stay, and so do those of weights that it reads or that are handed out', async () => {
  const ended = (graph: Graph, map: Value, inside: Value): readonly Value[] => {
    const branch = (factor: number): Graph => {
      const body = new Graph(`by${factor}`, graph)
      const type = { elem: 'float32', dims: null } as const
      body.addOutput(
        body.append().op('Mul', [inside, body.append().scalar(factor)], {}, { name: `by${factor}_y`, type }),
      )
      return body
    }
    const condition = graph
      .append()
      .op('Less', [graph.append().op('ReduceMax', [graph.inputs[0]!], { keepdims: 0 }), graph.append().scalar(1)])
    const attributes = { then_branch: graphAttribute(branch(2)), else_branch: graphAttribute(branch(3)) }
    const type = { elem: 'float32', dims: null } as const
    return [graph.append().op('If', [condition], attributes, { name: 'z', type }), next(graph, map)]
  }
  const activation = await leftBy((g, map) => ended(g, map, map))
  assert.deepEqual(
    [activation.changed, /If 'z' reads them/.test(activation.reasons)],
    [false, true],
    activation.reasons,
  )
  const weight = await leftBy((g, map, w) => ended(g, map, w))
  assert.match(weight.reasons, /its weight is also read by Mul/)
  const output = await leftBy((g, map, w) => [next(g, map), w])
  assert.deepEqual([output.changed, /'a.w' is an output of the model/.test(output.reasons)], [false, true])
  assert.equal((await leftBy(next)).changed, true)
})

test('arithmetic with the number of channels keeps them; with other sizes it does not', async () => {
  const scaled = (entry: number) => (g: Graph, map: Value) => {
    const b = g.append()
    const size = b.op('Gather', [b.op('Shape', [map]), g.addInitializer('at', Tensor.int64([1], [entry]))])
    return next(g, b.op('Mul', [map, b.op('Cast', [size], { to: elementTypes.float32.code })]))
  }
  const channels = await leftBy(scaled(1))
  assert.deepEqual([channels.changed, /depends on how many there are/.test(channels.reasons)], [false, true])
  assert.equal((await leftBy(scaled(2))).changed, true)
})

test('a constant that Concat joins, in front or behind, keeps its place', async () => {
  for (const first of [true, false]) {
    const { changed } = await leftBy((g, map) => {
      const fixed = g.addInitializer(
        'fixed',
        Tensor.float32(
          [3, 2, 4, 4],
          new Float32Array(96).map((_, i) => i / 50),
        ),
      )
      const joined = g.append().op('Concat', first ? [fixed, map] : [map, fixed], { axis: 1 })
      const draw = Float32Array.from({ length: 16 }, (_, i) => i / 16 - 0.4)
      return g
        .append()
        .op('Conv', [joined, g.addInitializer('j.w', Tensor.float32([2, 8, 1, 1], draw))], {}, { name: 'y' })
    })
    assert.equal(changed, true)
  }
})
