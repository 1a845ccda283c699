/** `check --target`: the target's readers, where they are installed: onnxruntime-web, and those in pythons that MNC_READERS names. */
import assert from 'node:assert/strict'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, test } from 'node:test'
import { parseReader } from '../../src/analysis/readers.ts'
import { randomBatches } from '../../src/check/check.ts'
import { checkReaders, gateReaders, type ReaderResult } from '../../src/check/check-readers.ts'
import { installedReaders, runIn } from '../../src/check/installed-readers.ts'
import { writeModel } from '../../src/codec/codec.ts'
import { runCommandLine } from '../../src/commands/program.ts'
import { exportFor } from '../../src/export/targets/export-for.ts'
import { targetOf, targets } from '../../src/export/targets/index.ts'
import { Model } from '../../src/graph/model.ts'
import { Tensor } from '../../src/graph/tensor.ts'
import { Sink } from '../cli/sink.ts'
import { smallNet } from '../export/nets.ts'

const folder = mkdtempSync(join(tmpdir(), 'mnc-readers-'))
after(() => rmSync(folder, { recursive: true }))

const installed = await installedReaders()

test('readers that are not installed are named; a path that is no python is a user error', async () => {
  const path = join(folder, 'net.onnx')
  const graph = smallNet(1)
  await writeModel(graph, path)
  const before = process.env.MNC_READERS
  const check = async (
    readers: string,
    target = 'opset13',
    file = path,
  ): Promise<{ code: number; out: string; err: string }> => {
    process.env.MNC_READERS = readers
    const [stdout, stderr] = [new Sink(), new Sink()]
    const code = await runCommandLine(['check', path, file, '--target', target, '--json'], { stdout, stderr })
    return { code, out: stdout.text, err: stderr.text }
  }
  try {
    const { code, out } = await check('')
    assert.equal(code, 0)
    const none = { version: null, refusal: null, maxRelError: null }
    assert.deepEqual(
      JSON.parse(out).readers,
      ['onnxruntime', 'openvino', 'opencv'].map((reader) => ({ reader, ...none })),
    )
    // every target says which of its readers ran the file, and which are not there
    for (const { name, readers, pick } of targets) {
      const own = join(folder, `own.${name}.onnx`)
      // measuring takes seconds, and the file for one reader more is as good here
      await writeModel((await exportFor(graph, { target: pick === 'fastest' ? 'size' : name })).model, own)
      const { code, out, err } = await check('', name, own)
      assert.equal(code, 0, `${name}: ${err}`)
      const told: readonly ReaderResult[] = JSON.parse(out).readers
      assert.deepEqual(
        told.map((r) => r.reader),
        readers.map((r) => parseReader(r).reader),
        name,
      )
      for (const r of told) assert.equal(r.version !== null, r.reader === 'onnxruntime-web', name)
    }
    // what is known to be read wrongly there fails, although it would load
    const refused = await check('', 'web')
    assert.equal(refused.code, 3)
    assert.match(refused.err, /onnxruntime-web [\d.]+ does not run it: .*DequantizeLinear of activations/)
    const wrong = await check(join(folder, 'no-python'))
    assert.equal(wrong.code, 2)
    assert.match(wrong.err, /MNC_READERS: .*no-python is no python that runs/)
  } finally {
    if (before === undefined) delete process.env.MNC_READERS
    else process.env.MNC_READERS = before
  }
})

test('a refusal and a large difference are gates', () => {
  const result = { reader: 'openvino', version: '1.2', refusal: null, maxRelError: 0.01 } as const
  gateReaders([result, { ...result, version: null, maxRelError: null }], 'net.onnx')
  for (const [fault, said] of [
    [{ refusal: 'no INT4', maxRelError: null }, /openvino 1\.2 does not run it: no INT4/],
    [{ maxRelError: 0.2 }, /openvino 1\.2 differs by 20\.0 %/],
  ] as const)
    assert.throws(() => gateReaders([result, { ...result, ...fault }], 'net.onnx'), said)
})

test('onnxruntime-web runs the file for the web, and inputs and outputs of other types', async () => {
  for (const [seed, activationBits] of [
    [1, 8],
    [2, 4],
  ] as const) {
    const graph = smallNet(seed, { activationBits })
    const { model } = await exportFor(graph, { target: 'web' })
    const path = join(folder, `web-${seed}.onnx`)
    await writeModel(model, path)
    for await (const batch of randomBatches(graph, 3)) {
      const wanted = targetOf('web').readers.map(parseReader)
      const [result, ...more] = await checkReaders(graph, { model, path }, batch, { wanted, installed })
      assert.equal(more.length, 0)
      assert.match(result!.version ?? '', /^1\.\d+/)
      assert.ok(result!.maxRelError !== null && result!.maxRelError < 0.05, JSON.stringify(result))
      break
    }
  }
  const model = new Model()
  const { graph } = model
  const ids = graph.addInput('ids', { elem: 'int64', dims: [3] })
  const table = graph.append().initializer('table', Tensor.float32([4, 2], [1, 2, 3, 4, 5, 6, 7, 8.5]))
  const rows = graph.append().op('Gather', [table, ids])
  graph.addOutput(graph.append().op('Cast', [rows], { to: 10 }, { name: 'y', type: { elem: 'float16', dims: [3, 2] } }))
  const path = join(folder, 'types.onnx')
  await writeModel(model, path)
  const [web] = installed.filter((r) => r.reader === 'onnxruntime-web')
  const ran = await runIn(web!, path, [{ ids: Tensor.from('int64', [3], [3, 0, 1]) }])
  assert.deepEqual(ran, { outputs: [Float32Array.of(7, 8.5, 1, 2, 3, 4)] })
  // what it refuses is told
  const bad = await runIn(web!, path, [{ other: Tensor.from('int64', [3], [3, 0, 1]) }])
  assert.match('refusal' in bad ? bad.refusal : '', /other|ids/)
})

test('files of targets give the same in every reader', {
  skip: installed.every((r) => r.reader === 'onnxruntime-web') && 'no MNC_READERS',
}, async () => {
  for (const [seed, activationBits] of [
    [1, 8],
    [2, 4],
  ] as const)
    for (const name of ['size', 'cpu', 'opset13', 'openvino', 'fp16']) {
      const graph = smallNet(seed, { activationBits })
      const { model } = await exportFor(graph, { target: name })
      const path = join(folder, `${name}-${seed}.onnx`)
      await writeModel(model, path)
      for await (const batch of randomBatches(graph, 3)) {
        const wanted = targetOf(name).readers.map(parseReader)
        const results = await checkReaders(graph, { model, path }, batch, { wanted, installed })
        assert.ok(results.some((r) => r.maxRelError !== null))
        gateReaders(results, path)
        break
      }
    }
})
