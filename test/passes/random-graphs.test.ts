import assert from 'node:assert/strict'
import test from 'node:test'
import fc from 'fast-check'
import { cloneModel } from '../../src/graph/clone.ts'
import { decodeModel, encodeModel } from '../../src/graph/codec.ts'
import { Graph, type Value } from '../../src/graph/graph.ts'
import { Model } from '../../src/graph/model.ts'
import { Tensor } from '../../src/graph/tensor.ts'
import { printModel } from '../../src/graph/text.ts'
import { parseModel } from '../../src/graph/text-parse.ts'
import { requirePass, runPass } from '../../src/passes/manager.ts'
import { Rng } from '../../src/rng.ts'
import { randomBatches, relativeError, runModel } from './golden.ts'

const STEPS = ['Conv', 'Conv', 'Depthwise', 'BatchNormalization', 'Relu', 'Add', 'Concat', 'Constant'] as const
interface Recipe {
  readonly seed: number
  readonly steps: readonly { readonly op: (typeof STEPS)[number]; readonly from: number; readonly other: number }[]
}

const recipes: fc.Arbitrary<Recipe> = fc.record({
  seed: fc.nat(1e6),
  steps: fc.array(fc.record({ op: fc.constantFrom(...STEPS), from: fc.nat(100), other: fc.nat(100) }), {
    minLength: 2,
    maxLength: 9,
  }),
})

/** A random DAG over [N, C, 5, 5] values; the outputs are what nothing else reads, with at least one Conv among them. */
function build({ seed, steps }: Recipe): Model {
  const rng = new Rng(seed)
  const graph = new Graph('random')
  const values = [graph.addInput('x', { elem: 'float32', dims: ['N', 4, 5, 5] })]
  const channels = new Map<Value, number>([[values[0]!, 4]])
  const b = graph.append()
  const constant = (name: string, dims: number[], low = -1, high = 1): Value => {
    const data = Float32Array.from({ length: dims.reduce((n, d) => n * d, 1) }, () => rng.uniform(low, high))
    return graph.addInitializer(name, Tensor.float32(dims, data))
  }
  const conv = (x: Value, out: number, group: number): Value => {
    const k = group > 1 || rng.chance(0.5) ? 3 : 1
    const w = constant('w', [out, channels.get(x)! / group, k, k])
    const bias = rng.chance(0.5) ? constant('b', [out]) : null
    return b.op('Conv', [x, w, bias], { pads: k === 3 ? [1, 1, 1, 1] : [0, 0, 0, 0], group }, { name: 'conv' })
  }
  for (const { op, from, other } of [...steps, { op: 'Conv', from: steps.length, other: 0 } as const]) {
    const x = values[from % values.length]!
    const c = channels.get(x)!
    const mates = values.filter((v) => channels.get(v) === c)
    let y: Value
    let count = c
    if (op === 'Conv') {
      count = rng.chance(0.5) ? 4 : 8
      y = conv(x, count, 1)
    } else if (op === 'Depthwise') y = conv(x, c, c)
    else if (op === 'BatchNormalization') {
      const parameters = ['gamma', 'beta', 'mean', 'var'].map((n) => constant(n, [c], n === 'var' ? 0.5 : -1, 1.5))
      y = b.op(op, [x, ...parameters], {}, { name: 'bn' })
    } else if (op === 'Relu') y = b.op(op, [x], {}, { name: 'relu' })
    else if (op === 'Add') y = b.op(op, [x, mates[other % mates.length]!], {}, { name: 'add' })
    else if (op === 'Concat') {
      const mate = values[other % values.length]!
      y = b.op(op, [x, mate], { axis: 1 }, { name: 'concat' })
      count = c + channels.get(mate)!
    } else {
      const limit = b.op('Neg', [b.op('Constant', [], { value: Tensor.scalar(0.25) })])
      y = b.op('Max', [x, limit], {}, { name: 'max' })
    }
    values.push(y)
    channels.set(y, count)
  }
  for (const v of values.slice(1)) {
    if (v.isUsed) continue
    v.setType({ elem: 'float32', dims: ['N', channels.get(v)!, 5, 5] })
    graph.addOutput(v)
  }
  return new Model(graph, 17)
}

const PIPELINES: readonly (readonly (readonly [pass: string, options: Record<string, unknown>])[])[] = [
  [['prune', { sparsity: 0.75 }]],
  [['prune', { pattern: '2:4' }]],
  [['quantize', {}]],
  [['quantize', { weightBits: 3, activationBits: 5, firstLayer: 'quantize', weightScale: 'max' }]],
  [['fold-bn', {}]],
  [['fold-constants', {}]],
  [['eliminate-dead', {}]],
  [['upgrade-opset', { to: 21 }]],
  [['freeze', { ops: ['Conv'] }]],
  [
    ['fold-constants', {}],
    ['fold-bn', {}],
    ['prune', { sparsity: 0.5, scope: 'layer' }],
    ['quantize', { weightBits: 0 }],
    ['quantize', { activationBits: 0 }],
    ['lower-fake-quant', {}],
    ['fold-constants', {}],
    ['eliminate-dead', {}],
  ],
]

for (const pipeline of PIPELINES)
  test(`random graphs through ${pipeline.map(([p]) => p).join(', ')}: sound, idempotent, round-trip, run`, () =>
    fc.assert(
      fc.asyncProperty(recipes, async (recipe) => {
        const model = build(recipe)
        for (const [name, options] of pipeline) {
          const context = { calibration: randomBatches(model, 1) }
          const before = cloneModel(model)
          await runPass(model, name, options, context)
          assert.equal((await runPass(model, name, options, context)).changed, false, `${name} twice`)
          if (requirePass(name).preserves === 'numerics') {
            const error = relativeError(await runModel(before), await runModel(model))
            assert.ok(error < 1e-4, `${name}: outputs differ by ${error}`)
          }
        }
        const text = printModel(model)
        assert.ok(printModel(parseModel(text)) === text, 'text round trip')
        const bytes = encodeModel(model)
        assert.ok(Buffer.compare(encodeModel(decodeModel(bytes)), bytes) === 0, 'file round trip')
        const [direct, read] = [await runModel(model), await runModel(decodeModel(bytes))]
        assert.equal(relativeError(direct, read), 0)
        assert.ok(relativeError(direct, await runModel(model, 1, 'all')) < 1e-4, 'as written when optimised')
      }),
      { numRuns: 6, seed: 7 },
    ))
