/** Facts of operators as the rest of the source asks for them: by what a node does, never by its bare name. */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { Graph, type Node } from '../../src/graph/graph.ts'
import { Model } from '../../src/graph/model.ts'
import { Tensor } from '../../src/graph/tensor.ts'
import { weightLayers } from '../../src/layers/layers.ts'
import {
  biasFactor,
  biasOf,
  castType,
  dropBiasFactor,
  groupsOf,
  isCast,
  isChannelNorm,
  isClip,
  isDequantize,
  isFloor,
  isInBatchMode,
  isMatrixProduct,
  isQuantize,
  isRectifier,
  productFactor,
  readsShape,
  setBias,
  takesBias,
} from '../../src/ops/facts.ts'
import { channelSlot, findOp, ops } from '../../src/ops/index.ts'
import { constantOf } from '../../src/ops/support/constant-of.ts'
import { foldBn } from '../../src/passes/fold-bn.ts'
import { ortExecutor } from '../../src/runtime/ort/ort.ts'

/** A node of three inputs, with attributes. */
function nodeOf(op: string, attributes: Record<string, number> = {}, domain = ''): Node {
  const graph = new Graph('g')
  const inputs = ['x', 'w', 'b'].map((name) => graph.addInput(name, { elem: 'float32', dims: null }))
  return graph.append().op(op, inputs, attributes, { domain }).producer!
}

const FACTS: readonly ((n: Node) => boolean)[] = [
  ...[isQuantize, isDequantize, isClip, isFloor, isRectifier, isCast, isChannelNorm, isMatrixProduct],
  ...[readsShape, takesBias],
]

test('an operator of another domain has nothing of its namesake in the standard', () => {
  for (const def of ops.filter((d) => !d.domain)) {
    const [own, foreign] = [nodeOf(def.op), nodeOf(def.op, {}, 'com.example')]
    assert.ok(own.is(def.op) && !foreign.is(def.op), def.op)
    assert.equal(findOp(foreign), undefined)
    for (const fact of FACTS) assert.equal(fact(foreign), false, `${def.op}: ${fact.name}`)
    assert.equal(biasOf(foreign), null)
    assert.equal(channelSlot(foreign), undefined)
  }
})

test('every fact is one of some operator', () => {
  for (const fact of FACTS)
    assert.ok(
      ops.some((def) => fact(nodeOf(def.op, {}, def.domain))),
      fact.name,
    )
})

test('definitions state everything that belongs to a fact', () => {
  for (const def of ops) {
    assert.equal(def.carries === 'order', def.permutes !== undefined, `${def.op}: permutes`)
    assert.equal(def.carries === 'shape', def.reshapes !== undefined, `${def.op}: reshapes`)
    assert.equal(def.carries === 'type', def.castsTo !== undefined, `${def.op}: castsTo`)
    assert.equal(def.affine !== undefined, def.batchMode !== undefined, `${def.op}: affine`)
    for (const slot of def.weights ?? []) {
      if (slot.bias !== undefined) assert.ok(def.parameters?.includes(slot.bias), `${def.op}: its bias is a parameter`)
      if (slot.factors || slot.transposed || slot.bias !== undefined) assert.ok(slot.channels, `${def.op}: channels`)
    }
  }
})

test('bias, factors and groups of each layer', () => {
  const gemm = nodeOf('Gemm', { alpha: 2, beta: 3, group: 7 })
  assert.deepEqual([productFactor(gemm), biasFactor(gemm), groupsOf(gemm)], [2, 3, 1])
  assert.equal(biasOf(gemm)?.name, 'b')
  dropBiasFactor(gemm)
  assert.equal(biasFactor(gemm), 1)
  setBias(gemm, null)
  assert.equal(biasOf(gemm), null)
  const conv = nodeOf('Conv', { alpha: 2, beta: 3, group: 7 })
  assert.deepEqual([productFactor(conv), biasFactor(conv), groupsOf(conv)], [1, 1, 7])
  assert.equal(biasOf(nodeOf('MatMul')), null, 'whatever a third input may be')
})

test('BatchNormalization trains by its form in the opset of the rules', () => {
  assert.ok(!isInBatchMode(nodeOf('BatchNormalization')))
  assert.ok(isInBatchMode(nodeOf('BatchNormalization', { training_mode: 1 })))
})

/** x -> MatMul with a weight that comes through `way` from an initializer. */
function behind(tensor: Tensor, way: (graph: Graph) => void): Graph {
  const graph = new Graph('g')
  const x = graph.addInput('x', { elem: 'float32', dims: [2, 3] })
  graph.addInitializer('w', tensor)
  way(graph)
  graph.addOutput(graph.append().op('MatMul', [x, graph.lastNode!.output]))
  return graph
}

test('a weight is found behind every operator that carries elements, and its axes with it', () => {
  const w = Tensor.float32([3, 4], new Array(12).fill(0.5))
  const ways: Record<string, { tensor?: Tensor; inputs?: Tensor[]; attributes?: Record<string, number | number[]> }> = {
    Identity: {},
    Cast: { attributes: { to: 1 } },
    CastLike: { inputs: [Tensor.float32([], [0])] },
    Reshape: { tensor: w.reshape([3, 1, 4]), inputs: [Tensor.int64([2], [3, 4])] },
    Flatten: { tensor: w.reshape([3, 2, 2]), attributes: { axis: 1 } },
    Squeeze: { tensor: w.reshape([3, 1, 4]), inputs: [Tensor.int64([1], [1])] },
    Unsqueeze: { tensor: w, inputs: [Tensor.int64([0], [])] },
    Transpose: { tensor: w.reshape([4, 3]), attributes: { perm: [1, 0] } },
  }
  for (const def of ops.filter((d) => d.carries)) {
    const { tensor = w, inputs = [], attributes = {} } = ways[def.op]!
    const graph = behind(tensor, (g) => {
      const more = inputs.map((t, i) => g.addInitializer(`c${i}`, t))
      g.append().op(def.op, [g.find('w')!, ...more], attributes)
    })
    const [layer, ...others] = weightLayers(graph)
    assert.ok(layer && others.length === 0, def.op)
    assert.equal(layer.weight.name, 'w', def.op)
    const sizes = [layer.inputAxis, layer.outputAxis].map((axis) => (axis === null ? null : tensor.dims[axis]))
    // of a Flatten of several axes the columns are none of them
    assert.deepEqual(sizes, def.op === 'Flatten' ? [3, null] : [3, 4], def.op)
  }
})

test('the type that CastLike casts to is known where its second input is', () => {
  const graph = new Graph('g')
  const x = graph.addInput('x', { elem: 'float32', dims: [2] })
  const like = graph.addInitializer('like', Tensor.of('int8', [], new Int8Array(1)))
  assert.equal(castType(graph.append().op('CastLike', [x, like]).producer!), 'int8')
  const unknown = graph.addInput('unknown', null)
  assert.equal(castType(graph.append().op('CastLike', [x, unknown]).producer!), undefined)
})

test('a constant is the same for everyone who asks, behind Identity too', () => {
  const graph = new Graph('g')
  const w = graph.addInitializer('w', Tensor.float32([1], [2.5]))
  const node = graph.append().op('Constant', [], { value_float: { kind: 'float', value: 2.5 } })
  for (const v of [w, node]) {
    const twice = graph.append().op('Identity', [graph.append().op('Identity', [v])])
    assert.equal(constantOf(twice)?.item(), 2.5)
  }
  assert.equal(constantOf(graph.append().op('Identity', [w], {}, { domain: 'com.example' })), null)
})

test('fold-bn leaves a normalisation of another domain alone, and one of ours computes as before', async () => {
  for (const domain of ['', 'com.example']) {
    const model = new Model(new Graph('g'), 21)
    if (domain) model.opsets.set(domain, 1)
    const { graph } = model
    const x = graph.addInput('x', { elem: 'float32', dims: [1, 2, 3, 3] })
    const weights = Array.from({ length: 4 }, (_, i) => i / 2 - 0.7)
    const w = graph.addInitializer('w', Tensor.float32([2, 2, 1, 1], weights))
    const parameters = [2, 0.5, -1, 3].map((v, i) => graph.addInitializer(`p${i}`, Tensor.float32([2], [v, v + 1.5])))
    const y = graph.append().op('Conv', [x, w])
    graph.addOutput(graph.append().op('BatchNormalization', [y, ...parameters], {}, { domain }))
    const run = async () => {
      const session = await ortExecutor().load(model)
      const out = await session.run({
        x: Tensor.float32(
          [1, 2, 3, 3],
          Array.from({ length: 18 }, (_, i) => i / 9 - 1),
        ),
      })
      await session.dispose()
      return Array.from(Object.values(out)[0]!.toNumbers())
    }
    const before = domain ? null : await run()
    const changed = await foldBn.run(model, { allowNonfinite: false }, { decline: () => {}, log: () => {}, seed: 0 })
    assert.equal(changed, domain === '')
    if (before) (await run()).forEach((v, i) => void assert.ok(Math.abs(v - before[i]!) < 1e-5))
  }
})
