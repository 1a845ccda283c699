/** `--device`: refusals, what a run says of its device, and the doctor's answer. */
import assert from 'node:assert/strict'
import { spawnSync } from 'node:child_process'
import { existsSync } from 'node:fs'
import { writeFile } from 'node:fs/promises'
import { test } from 'node:test'
import { writeModel } from '../../src/codec/codec.ts'
import { Graph } from '../../src/graph/graph.ts'
import { Model } from '../../src/graph/model.ts'
import { buildNetwork } from '../../src/models/spec.ts'
import { cli } from '../support/compiled.ts'
import { scratch } from '../train/fixtures.ts'
import { mnc } from './run-mnc.ts'

const at = scratch()
const MODEL = at('lenet.onnx')
await writeModel(buildNetwork({ family: 'lenet', size: 12, mean: [0.286], std: [0.353] }), MODEL)
const SMALL = ['--data', 'embedded', '--limit', '8', '--batch', '4']

test('a device that is not there is refused, by name, with what it needs', async () => {
  for (const [device, says] of Object.entries({
    webgp: /unknown --device 'webgp', did you mean 'webgpu'/,
    dml: /has no such provider/,
    'tfjs:wsm': /no backend 'wsm', did you mean 'wasm'/,
    'tfjs:tensorflow-gpu': /needs @tensorflow\/tfjs-node-gpu .*npm install|does not work here/,
  })) {
    const out = at('never.onnx')
    const { code, err } = await mnc('train', MODEL, ...SMALL, '--device', device, '-o', out)
    assert.equal(code, 2, `${device}: ${err}`)
    assert.match(err, says)
    assert.ok(!existsSync(out))
  }
})

test('cuda without its library and webgpu without a driver end with 2 and one message', () => {
  const env = {
    ...process.env,
    VK_ICD_FILENAMES: '/nowhere.json',
    VK_DRIVER_FILES: '/nowhere.json',
    LD_LIBRARY_PATH: '',
  }
  for (const [device, says] of Object.entries({
    cuda: /^mnc: --device cuda does not work here: libonnxruntime_providers_cuda\.so is not installed/m,
    webgpu: /^mnc: --device webgpu does not work here: Failed to get a WebGPU adapter/m,
  })) {
    const args = [cli, 'eval', MODEL, ...SMALL, '--device', device]
    const { status, stderr } = spawnSync(process.execPath, args, { env, encoding: 'utf8' })
    assert.equal(status, 2, stderr)
    assert.match(stderr, says)
  }
})

test('train, eval and doctor on TensorFlow.js', async () => {
  const out = at('trained.onnx')
  const trained = await mnc('train', MODEL, ...SMALL, '--device', 'tfjs:wasm', '-o', out)
  assert.equal(trained.code, 0, trained.err)
  assert.match(trained.err, /on TensorFlow\.js [\d.]+ \(wasm\)/)
  const [device, cpu] = await Promise.all([
    mnc('eval', out, ...SMALL, '--device', 'tfjs', '--json'),
    mnc('eval', out, ...SMALL, '--json'),
  ])
  assert.match(device.err, /on TensorFlow\.js .*chosen by --device tfjs/)
  assert.ok(Math.abs(JSON.parse(device.out).loss - JSON.parse(cpu.out).loss) < 1e-4)
  const doctor = await mnc('doctor', out, '--device', 'tfjs:cpu', '--json')
  assert.deepEqual(JSON.parse(doctor.out).fallbacks, { inference: [], training: [] }, doctor.err)
})

test('eval warns of what runs on the CPU', async () => {
  const model = new Model(new Graph('odd'), 21)
  const b = model.graph.append()
  const x = model.graph.addInput('x', { elem: 'float32', dims: ['N', 1, 28, 28] })
  const flat = b.op('Flatten', [x])
  const first = b.op('Slice', [flat, b.ints([0]), b.ints([10]), b.ints([1])])
  // the largest ten of ten, in their order: no kernel of TensorFlow.js here
  const [top] = b.ops('TopK', [first, b.ints([10])], 2, {}, { type: { elem: 'float32', dims: ['N', 10] } })
  model.graph.addOutput(top!)
  const path = at('odd.onnx')
  await writeModel(model, path)
  const pixels = ['--mean', '0.286', '--std', '0.353', '--device', 'tfjs:cpu']
  const { code, err } = await mnc('eval', path, ...SMALL, ...pixels)
  assert.equal(code, 0, err)
  assert.match(err, /WARNING: 1 TopK run on the CPU: .*no kernel/)
})

test('a recipe says of every stage that runs a graph what device it is on', async () => {
  const recipe = at('recipe.json')
  const train = { epochs: 1, limit: 8, batch: 4, device: 'tfjs:cpu' }
  const stage = { 'bn-update': { limit: 8, batch: 4, device: 'tfjs:cpu' }, eval: { limit: 8, device: 'tfjs:cpu' } }
  const spec = { family: 'resnet', depth: 8, width: 4, size: 28, channels: 1, mean: [0.286], std: [0.353] }
  const net = at('net.onnx')
  await writeModel(buildNetwork(spec), net)
  const stages = [
    { name: 'tuned', from: net, train },
    { name: 'bn', from: 'tuned', ...stage },
  ]
  await writeFile(recipe, JSON.stringify({ name: 'r', data: 'embedded', stages }))
  const { code, err } = await mnc('run', recipe, '--workdir', at('work'))
  assert.equal(code, 0, err)
  assert.equal(err.match(/on TensorFlow\.js [\d.]+ \(cpu\)/g)?.length, 3, err)
})

test('auto says what it chose', async () => {
  const { code, err } = await mnc('eval', MODEL, ...SMALL, '--device', 'auto')
  assert.equal(code, 0)
  assert.match(err, /^on .*chosen by --device auto$/m)
})
