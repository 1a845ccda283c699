/** Corner cases of the zoo of real models; skipped where it is not there. */
import assert from 'node:assert/strict'
import { existsSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { test } from 'node:test'
import { MncError } from '../../src/base/errors.ts'
import { decodeModel, encodeModel, readModel } from '../../src/codec/codec.ts'
import { passes } from '../../src/passes/index.ts'
import { findPass, runPass } from '../../src/passes/run-pass.ts'
import { ortExecutor } from '../../src/runtime/ort/ort.ts'
import { firstDifference } from '../graph/wire.ts'

const zoo = join(import.meta.dirname, '../../../shared/zoo')
const there = (file: string): string | false => (existsSync(join(zoo, file)) ? false : `${file} is not there`)

test('a ZipMap output passes through every pass that applies', { skip: there('ankane_lightgbm.onnx') }, async () => {
  const file = join(zoo, 'ankane_lightgbm.onnx')
  const bytes = readFileSync(file)
  assert.equal(firstDifference(bytes, Buffer.from(encodeModel(decodeModel(bytes)))), undefined)
  for (const { name } of passes) {
    const model = await readModel(file)
    const before = [...model.graph.outputs].map((v) => v.name)
    try {
      await runPass(model, findPass(name))
    } catch (error) {
      assert.ok(error instanceof MncError && error.blame !== 'pass', `${name}: ${String(error)}`)
      continue
    }
    assert.deepEqual(
      model.graph.outputs.slice(0, before.length).map((v) => v.name),
      before,
    )
    assert.ok([...model.graph.nodes()].some((n) => n.op === 'ZipMap' && n.domain === 'ai.onnx.ml'))
    const session = await ortExecutor().load(model)
    await session.dispose()
  }
})

const quantised = 'ort_MauiModelTester_model.onnx'
test('a model that came quantised is not quantised twice', { skip: there(quantised) }, async () => {
  const model = await readModel(join(zoo, quantised))
  await assert.rejects(
    runPass(model, 'quantize', { weightBits: 8, activationBits: 8, ops: ['Conv', 'Gemm'] }),
    /the model is already quantised/,
  )
})

const foreign = 'qonnx_mnist_TFC_2W2A.onnx'
test('an operator of an unknown domain: carried, and refused by name where it must run', {
  skip: there(foreign),
}, async () => {
  for (const { name, data } of passes) {
    const model = await readModel(join(zoo, foreign))
    try {
      await runPass(model, findPass(name))
      assert.equal([...model.graph.nodes()].filter((n) => n.domain === 'onnx.brevitas').length, 8, name)
    } catch (error) {
      assert.ok(error instanceof MncError && error.blame !== 'pass', `${name}: ${String(error)}`)
      // these lack data, a teacher, names
      if (data !== 'required' && !['merge-teacher', 'freeze-subgraph'].includes(name))
        assert.match(error.describe(), /Quant/, name)
    }
  }
})
