import assert from 'node:assert/strict'
import test from 'node:test'
import { printModel } from '../../src/codec/text.ts'
import { parseModel } from '../../src/codec/text-parse.ts'
import { passes } from '../../src/passes/index.ts'
import { findPass, runPass } from '../../src/passes/run-pass.ts'
import { randomBatches, readCases, relativeError, runCase, runModel, writeCase } from './golden.ts'

const update = process.env.UPDATE_GOLDENS === '1'
const cases = readCases()

for (const c of cases) {
  test(`${c.pass}: ${c.name}`, async () => {
    const { text, model } = await runCase(c)
    if (update) writeCase(c, text)
    else assert.equal(text, c.expected)
    if (!model) return
    const once = printModel(model)
    const before = parseModel(c.input)
    const context = c.batches > 0 ? { calibration: randomBatches(before, c.batches) } : {}
    const again = await runPass(model, findPass(c.pass), c.options, context)
    assert.equal(again.changed, false, 'a second run changes nothing')
    assert.equal(printModel(model), once)
    const [a, b] = [await runModel(before), await runModel(model)]
    const optimized = await runModel(model, 1, 'all')
    if (Number(c.options.weightBits ?? 4) < 8)
      assert.ok(relativeError(b, optimized) <= 1e-5, 'as written when optimised')
    if (findPass(c.pass).preserves === 'numerics') assert.ok(relativeError(a, b) <= 1e-5, 'same outputs')
    if (findPass(c.pass).preserves === 'interface') assert.deepEqual(Object.keys(b), Object.keys(a))
  })
}

test('every pass has golden cases, and every golden folder is a pass', () => {
  assert.deepEqual([...new Set(cases.map((c) => c.pass))].sort(), passes.map((p) => p.name).sort())
})
