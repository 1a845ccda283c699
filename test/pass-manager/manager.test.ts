import assert from 'node:assert/strict'
import { createHash } from 'node:crypto'
import test from 'node:test'
import { MncError } from '../../src/base/errors.ts'
import { optionTable } from '../../src/base/options.ts'
import { encodeModel, fingerprint } from '../../src/codec/codec.ts'
import { parseModel } from '../../src/codec/text-parse.ts'
import { definePass, namesOf, type PassDef } from '../../src/pass-manager/define-pass.ts'
import { readHistory, recordHistory } from '../../src/pass-manager/history.ts'
import { applyPass } from '../../src/pass-manager/manager.ts'
import { passes } from '../../src/passes/index.ts'
import { findPass, runPass } from '../../src/passes/run-pass.ts'

const model = () =>
  parseModel(`onnx {ir_version=10}
opset ai.onnx=21
graph "g"
  input %x : float32[2]
  init %w = float32[2] [1, 2]
  %h = Mul(%x, %w) #name "mul"
  %y : float32[2] = Relu(%h) #name "relu"
  output %y
end
`)
const passOf = (run: PassDef['run']): PassDef =>
  definePass({ name: 'test-pass', summary: '', options: optionTable({}), preserves: 'nothing', run })

const blame =
  (who: string, pattern: RegExp) =>
  (e: unknown): boolean => {
    assert.ok(e instanceof MncError)
    assert.equal(e.blame, who)
    assert.match(e.describe(), pattern)
    return true
  }

test('a pass that lies about having changed the model is a bug, either way', async () => {
  const silent = passOf((m) => {
    m.graph.find('h')!.producer!.setAttribute('k', 1)
    return false
  })
  await assert.rejects(applyPass(model(), silent), blame('pass', /reports that it did not change/))
  await assert.rejects(
    applyPass(
      model(),
      passOf(() => true),
    ),
    blame('pass', /reports that it changed the model, which is not true/),
  )
})

test('a pass that breaks the graph is named', async () => {
  const breaker = passOf((m) => {
    m.graph.move(m.graph.find('h')!.producer!, null)
    return true
  })
  await assert.rejects(applyPass(model(), breaker), blame('pass', /pass\/test-pass left a broken graph/))
})

test('unknown passes, options and ranges are usage errors that help', async () => {
  // @ts-expect-error: no such pass
  await assert.rejects(runPass(model(), 'prun'), blame('user', /did you mean 'prune'/))
  await assert.rejects(
    // @ts-expect-error: no such option
    runPass(model(), 'prune', { sparsty: 0.5 }),
    blame('user', /unknown option 'sparsty'.*'sparsity'/),
  )
  await assert.rejects(
    runPass(model(), 'prune', { sparsity: 1.5 }),
    blame('user', /--sparsity must be a share below 1/),
  )
  await assert.rejects(
    runPass(model(), 'prune', { layerSparsity: { a: 2 } }),
    blame('user', /--layer-sparsity must be .* 0.02 or 2% \(a\)/),
  )
  await assert.rejects(runPass(model(), 'prune', { pattern: '4:2' }), blame('user', /--pattern '4:2'/))
  await assert.rejects(runPass(model(), 'prune', { pattern: '2:4', sparsity: 0.7 }), blame('user', /makes 0.5/))
  await assert.rejects(runPass(model(), 'quantize', { weightBits: 1 }), blame('user', /--weight-bits=1/))
  await assert.rejects(runPass(model(), 'quantize', { weightBits: 9 }), blame('user', /--weight-bits must be <= 8/))
  await assert.rejects(runPass(model(), 'prune', {}), blame('model', /no Conv layers/))
})

test('a pass answers to its short name and to those it used to have, and no two share one', () => {
  const names = passes.flatMap(namesOf)
  assert.equal(new Set(names).size, names.length)
  for (const def of passes) for (const name of namesOf(def)) assert.equal(findPass(name), def)
  assert.equal(findPass('quantize-additions').name, 'quantize-outputs')
})

test('what ran is recorded in order, in the same bytes whatever the order of the options', async () => {
  const m = model()
  await runPass(m, 'freeze', { ops: ['Mul'], names: ['relu'] })
  await runPass(m, 'freeze', { names: ['relu'], ops: ['Mul'] })
  const input = fingerprint(model())
  assert.equal(
    m.metadata.get('mnc.history'),
    `[{"pass":"freeze-subgraph","options":{"names":["relu"],"ops":["Mul"]},"input":"${input}","metrics":{"nodes":${m.graph.nodeCount},"declined":0}}]`,
  )
})

test('the history chains: each entry names the bytes before it; damage and foreign entries do not stop it', async () => {
  const m = model()
  const before = encodeModel(m)
  await runPass(m, 'freeze', { ops: ['Mul'] })
  const between = encodeModel(m)
  await runPass(m, 'freeze', { ops: ['Relu'] })
  const sha = (bytes: Uint8Array): string => createHash('sha256').update(bytes).digest('hex').slice(0, 16)
  assert.deepEqual(
    readHistory(m).map((e) => e.input),
    [sha(before), sha(between)],
  )
  m.metadata.set('mnc.history', '[{"tool":"other"},{"pass":"prune","options":{"sparsity":0.5}}]')
  recordHistory(m, { pass: 'train', options: {}, input: 'x', metrics: { loss: null, steps: 3 } })
  assert.deepEqual(readHistory(m), [
    { pass: 'prune', options: { sparsity: 0.5 } },
    { pass: 'train', options: {}, input: 'x', metrics: { steps: 3 } },
  ])
  m.metadata.set('mnc.history', '{broken')
  assert.deepEqual(readHistory(m), [])
})
