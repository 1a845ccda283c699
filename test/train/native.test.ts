/** `mnc train` with native kernels: chosen, refused, killed, resumed; what it writes holds standard operators alone. */
import assert from 'node:assert/strict'
import { spawn } from 'node:child_process'
import { cpSync, existsSync, mkdirSync, readFileSync, symlinkSync } from 'node:fs'
import { dirname, join, resolve } from 'node:path'
import { test } from 'node:test'
import { readModel, writeModel } from '../../src/codec/codec.ts'
import type { Graph } from '../../src/graph/graph.ts'
import { buildNetwork } from '../../src/models/spec.ts'
import { cli, compiledFile } from '../support/compiled.ts'
import { builtKernels, noKernels } from '../support/native.ts'
import { linearModel, scratch } from './fixtures.ts'

const skip = noKernels
const at = scratch()
const MODEL = at('resnet.onnx')
await writeModel(
  buildNetwork({ family: 'resnet', depth: 8, channels: 1, size: 12, mean: [0.286], std: [0.353] }),
  MODEL,
)
const flags = ['--data', 'embedded', '--limit', '64', '--batch', '8', '--lr', '0.02', '--threads', '1', '--epochs', '1']

interface Ran {
  readonly code: number | string | null
  readonly err: string
}

/** `native`: MNC_NATIVE; undefined: unset. */
function start(out: string, more: readonly string[], native: string | undefined, model = MODEL) {
  const { MNC_NATIVE: _, ...env } = process.env
  const args = [cli, 'train', model, ...flags, ...more, '-o', at(out)]
  const set = native === undefined ? env : { ...env, MNC_NATIVE: native }
  const child = spawn(process.execPath, args, { stdio: ['ignore', 'ignore', 'pipe'], env: set })
  let err = ''
  child.stderr.on('data', (s: Buffer) => {
    err += s
  })
  const ran = new Promise<Ran>((done) => child.on('close', (code, signal) => done({ code: code ?? signal, err })))
  return { child, ran }
}

async function train(out: string, more: readonly string[] = [], native?: string, model = MODEL): Promise<Ran> {
  const ran = await start(out, more, native, model).ran
  assert.equal(ran.code, 0, ran.err)
  return ran
}

const bytes = (name: string): Buffer => readFileSync(at(name))

const weights = async (name: string): Promise<readonly (readonly [string, Uint8Array])[]> =>
  [...(await readModel(at(name))).graph.initializers()].map((v) => [v.name, v.constant!.bytes.slice()])

const domains = (graph: Graph): Set<string> => new Set([...graph.nodes()].map((n) => n.domain))

test('a step that native kernels have no part in is not said to have them', { skip }, async () => {
  await writeModel(linearModel(0, 10), at('linear.onnx'))
  const { err } = await train('trained.onnx', [], undefined, at('linear.onnx'))
  assert.match(err, /on onnxruntime \(cpu\)/)
  assert.doesNotMatch(err, /native/)
})

test('with and without: said at the start, and nothing native in any file', { skip }, async () => {
  const native = await train('native.onnx', ['--checkpoint-steps', '2'])
  assert.match(native.err, /on onnxruntime \(cpu\) with native kernels \((AVX-512|AVX2|SSE2)\)/)
  for (const name of ['native.onnx', 'native.checkpoint.onnx'])
    if (existsSync(at(name))) {
      const model = await readModel(at(name))
      assert.deepEqual([...domains(model.graph)], [''], name)
      assert.ok(![...model.opsets.keys()].some((domain) => domain.includes('mnc')))
      assert.ok(!bytes(name).includes('step.mnc') && !bytes(name).includes('gradient-of'))
    }
  const [off, flag] = [await train('off.onnx', [], '0'), await train('flag.onnx', ['--no-native'])]
  for (const { err } of [off, flag]) assert.doesNotMatch(err, /native/)
  // but for the options that a file records
  assert.deepEqual(await weights('off.onnx'), await weights('flag.onnx'))
  await train('again.onnx')
  assert.deepEqual(bytes('again.onnx'), bytes('native.onnx'))
  assert.notDeepEqual(await weights('off.onnx'), await weights('native.onnx'))
  await train('profiled.onnx', ['--profile', at('trace.json')])
  assert.deepEqual(await weights('profiled.onnx'), await weights('native.onnx'))
  const events = JSON.parse(readFileSync(at('trace.json'), 'utf8')) as { name: string; args?: { op_name?: string } }[]
  const gradients = events.filter((e) => e.args?.op_name === 'ConvWeightGrad').map((e) => e.name)
  assert.ok(gradients.length > 0 && gradients.every((name) => name.startsWith('weight gradient of ')), gradients[0])
})

test('killed and resumed: the bytes of one run', { skip }, async () => {
  const { child, ran } = start('killed.onnx', ['--checkpoint-steps', '1'], undefined)
  while (!existsSync(at('killed.checkpoint.onnx'))) {
    assert.equal(child.exitCode, null, 'the run ended before its first checkpoint')
    await new Promise((done) => setTimeout(done, 2))
  }
  child.kill('SIGKILL')
  assert.equal((await ran).code, 'SIGKILL')
  await train('killed.onnx', ['--checkpoint-steps', '1', '--resume'])
  await train('straight.onnx', ['--checkpoint-steps', '1'])
  assert.deepEqual(bytes('killed.onnx'), bytes('straight.onnx'))
})

test('a library that cannot be used: refused where it is named, standard operators where it is not', async () => {
  const { code, err } = await start('none.onnx', [], at('missing.so')).ran
  assert.equal(code, 2, err)
  assert.match(err, /MNC_NATIVE=.*missing\.so/)
  assert.ok(!existsSync(at('none.onnx')))
})

test('the library is found as an installed package', { skip }, async () => {
  // the sources as they are installed: without a build of the library
  const root = at('installed')
  const kernels = join(root, 'node_modules', 'mnc-kernels-linux-x64')
  mkdirSync(kernels, { recursive: true })
  cpSync(builtKernels, join(kernels, 'mnc-step.so'))
  cpSync('native/package.json', join(kernels, 'package.json'))
  for (const name of ['package.json', 'tsconfig.json', 'data', 'models']) symlinkSync(resolve(name), join(root, name))
  cpSync(compiledFile('src'), join(root, 'src'), { recursive: true })
  for (const name of ['onnxruntime-node', 'onnxruntime-common', 'koffi', '@koromix'])
    if (existsSync(join('node_modules', name)))
      symlinkSync(resolve('node_modules', name), join(root, 'node_modules', name))
  const script = `import { nativeKernels } from './src/runtime/native/library.js'
    process.stdout.write(JSON.stringify(Object.keys(await nativeKernels())))`
  const { MNC_NATIVE: _, ...env } = process.env
  const child = spawn(process.execPath, ['--input-type=module', '--eval', script], {
    cwd: root,
    env,
  })
  let [out, err] = ['', '']
  child.stdout.on('data', (s: Buffer) => {
    out += s
  })
  child.stderr.on('data', (s: Buffer) => {
    err += s
  })
  await new Promise((done) => child.on('close', done))
  assert.match(out, /instructions/, err)
  assert.ok(!existsSync(join(dirname(kernels), '..', 'build')))
})
