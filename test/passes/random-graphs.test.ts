/** Passes on random models: what each promises holds, applied twice, through text and file, and in onnxruntime. */
import assert from 'node:assert/strict'
import test from 'node:test'
import { decodeModel, encodeModel } from '../../src/codec/codec.ts'
import { printModel } from '../../src/codec/text.ts'
import { parseModel } from '../../src/codec/text-parse.ts'
import { cloneModel } from '../../src/graph/clone.ts'
import { findPass, runPass } from '../../src/passes/run-pass.ts'
import { randomGraph } from '../support/random-graph.ts'
import { randomBatches, relativeError, runModel } from './golden.ts'

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

/** Seeds of models with a convolution, the default of passes that treat layers. */
const SEEDS = Array.from({ length: 60 }, (_, i) => i + 700).filter((seed) =>
  [...randomGraph(seed).graph.nodes()].some((n) => n.op === 'Conv'),
)
const RUNS = 6

for (const [k, pipeline] of PIPELINES.entries())
  test(`random graphs through ${pipeline.map(([p]) => p).join(', ')}: sound, idempotent, round-trip, run`, async () => {
    for (const seed of SEEDS.slice(0, RUNS).map((_, i) => SEEDS[(k + i * 5) % SEEDS.length]!)) {
      const model = randomGraph(seed)
      const what = (pass: string): string => `${pass}, seed ${seed}`
      for (const [name, options] of pipeline) {
        const context = { calibration: randomBatches(model, 1) }
        const before = cloneModel(model)
        await runPass(model, findPass(name), options, context)
        assert.equal((await runPass(model, findPass(name), options, context)).changed, false, what(`${name} twice`))
        if (findPass(name).preserves === 'numerics') {
          const error = relativeError(await runModel(before), await runModel(model))
          assert.ok(error < 1e-4, what(`${name}: outputs differ by ${error}`))
        }
      }
      const text = printModel(model)
      assert.ok(printModel(parseModel(text)) === text, what('text round trip'))
      const bytes = encodeModel(model)
      assert.ok(Buffer.compare(encodeModel(decodeModel(bytes)), bytes) === 0, what('file round trip'))
      const [direct, read] = [await runModel(model), await runModel(decodeModel(bytes))]
      assert.equal(relativeError(direct, read), 0, what('read again'))
      assert.ok(relativeError(direct, await runModel(model, 1, 'all')) < 1e-4, what('as written when optimised'))
    }
  })
