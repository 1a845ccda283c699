/** Target web in a real page: right on WebAssembly and on WebGPU, where files with quantiser pairs are not. */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { parseReader, readersOf, refusalOf } from '../../src/analysis/readers.ts'
import { exportFor } from '../../src/export/targets/export-for.ts'
import type { Model } from '../../src/graph/model.ts'
import { Tensor } from '../../src/graph/tensor.ts'
import { ortExecutor } from '../../src/runtime/ort/ort.ts'
import { browser } from '../support/page-looks.ts'
import { type Engine, engines, openWebPage } from '../support/web-page.ts'
import { Net, noise } from './nets.ts'

/** Two convolutions between quantisers: a software adapter takes seconds to compile each kernel. */
function net(seed: number, activationBits: number): Model {
  const n = new Net(seed, { bits: 4, activationBits })
  const x = n.act(n.input([1, 4, 5, 5]))
  const a = n.act(n.relu(n.conv(x, 'a', 4, 8, 3, { bias: true })))
  return n.finish(n.conv(a, 'b', 8, 6, 1))
}

const graphs: Readonly<Record<string, () => Model>> = { w4a8: () => net(5, 8), w4a4: () => net(6, 4) }

function errorOf(got: readonly number[], want: Float32Array): number {
  assert.equal(got.length, want.length)
  const largest = want.reduce((m, v) => Math.max(m, Math.abs(v)), 0)
  return got.reduce((m, v, i) => Math.max(m, Math.abs(v - want[i]!)), 0) / largest
}

test('a page computes what the graph computes', {
  skip: browser === undefined && 'no Chromium',
  timeout: 240_000,
}, async () => {
  const models: Record<string, Model> = {}
  for (const [name, graph] of Object.entries(graphs)) {
    models[name] = (await exportFor(graph(), { target: 'web' })).model
    models[`${name}.int8`] = (await exportFor(graph(), { format: 'int8' })).model
  }
  const page = await openWebPage(models)
  try {
    for (const [name, graph] of Object.entries(graphs)) {
      const given = graph()
      const [input] = given.graph.inputs
      const dims = input!.type!.dims!.map(Number)
      const x = Tensor.float32(dims, Float32Array.from({ length: dims.reduce((a, d) => a * d, 1) }, noise(7)))
      const session = await ortExecutor().load(given, { optimization: 'disabled' })
      const output = given.graph.outputs[0]!.name
      const want = (await session.run({ [input!.name]: x }, [output]))[output]!.toFloat32()
      await session.dispose()
      const error = async (model: string, engine: Engine) =>
        errorOf(await page.run(model, engine, input!.name, x), want)
      const slow = name === 'w4a8'
      for (const engine of slow ? (Object.keys(engines) as Engine[]) : (['wasm'] as const)) {
        const e = await error(name, engine)
        assert.ok(e < 0.03, `${name}, ${engine}: ${e}`)
      }
      // why the table of readers says that pairs are not read: true of the default WebGPU
      const pairs = `${name}.int8`
      assert.ok((await error(pairs, 'wasm')) < 0.03, name)
      if (slow) assert.ok((await error(pairs, 'webgpu')) > 0.1, name)
    }
  } finally {
    await page.close()
  }
})

test('pairs of activations are no form for the web, and a format that has them is refused', async () => {
  for (const graph of Object.values(graphs)) {
    const { model } = await exportFor(graph(), { target: 'web' })
    assert.equal(refusalOf(readersOf(model), parseReader('onnxruntime-web')), null)
    for (const format of ['int8', 'qdq', 'int4'] as const)
      await assert.rejects(
        exportFor(graph(), { format, reader: 'onnxruntime-web' }),
        /onnxruntime-web does not read DequantizeLinear of activations/,
      )
  }
})
