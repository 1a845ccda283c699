/** Commands in process, with captured streams. */
import assert from 'node:assert/strict'
import { createHash } from 'node:crypto'
import { existsSync, mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import test, { after } from 'node:test'
import type { LayerInfo, ModelInfo } from '../../src/analysis/model-info.ts'
import { parseOptions } from '../../src/base/options.ts'
import { readModel } from '../../src/codec/codec.ts'
import type { CommandDef } from '../../src/commands/define-command.ts'
import { commands } from '../../src/commands/index.ts'
import { CommandIO } from '../../src/commands/io.ts'
import { outputBeside } from '../../src/commands/pass.ts'
import { Progress } from '../../src/commands/progress.ts'
import type { HistoryEntry } from '../../src/pass-manager/history.ts'
import { Sink } from './sink.ts'

const folder = mkdtempSync(join(tmpdir(), 'mnc-commands-'))
after(() => rmSync(folder, { recursive: true }))
const at = (name: string): string => join(folder, name)

async function call(def: CommandDef, args: readonly string[], given: Record<string, unknown> = {}, json = true) {
  const [out, err] = [new Sink(), new Sink()]
  const io = new CommandIO({ json, quiet: false, verbose: false, seed: 0 }, out, err)
  await def.run(args, parseOptions(def.options, given, def.name), io)
  return { out: out.text, err: err.text }
}

const command = (name: string): CommandDef => commands.find((c) => c.name === name)!

test('info of DenseNet-BC-100-12: 800,032 parameters and 288.0 M MACs', async () => {
  await call(command('build'), ['densenet-bc-100-12'], { output: at('student.onnx') })
  const info = JSON.parse((await call(command('info'), [at('student.onnx')])).out)
  const fields = ['irVersion', 'opset', 'inputs', 'outputs', 'nodes', 'ops', 'parameters', 'macs', 'bytes', 'layers']
  assert.deepEqual(Object.keys(info), [...fields, 'frozen', 'readers', 'history', 'preprocess', 'sampleRate'])
  assert.equal(info.parameters, 800_032)
  assert.equal((info.macs / 1e6).toFixed(1), '288.0')
  assert.equal(info.opset, 21)
  assert.equal(info.bytes, readFileSync(at('student.onnx')).length)
  assert.deepEqual(info.inputs, [{ name: 'input', type: 'float32', dims: ['N', 3, 32, 32] }])
  assert.equal(info.ops.Conv, 99)
  const [stem] = info.layers
  const macs = 32 * 32 * 24 * 27
  assert.deepEqual(stem, {
    ...{ name: 'stem', op: 'Conv', shape: [24, 3, 3, 3], weights: 648, sparsity: 0, weightBits: 32 },
    ...{ valueBits: 32, activationBits: 32, macs, bytes: 648 * 4, frozen: false },
  })
})

test('info sees masks and quantisers: sparsity and bits of what runs', async () => {
  await call(command('build'), ['lenet'], { output: at('lenet.onnx') })
  const passes = await command('pass').subcommands!()
  const pass = (name: string): CommandDef => passes.find((p) => p.name === name)!
  const pruning = { sparsity: 0.5, scope: 'layer', ops: ['Conv', 'Gemm'] }
  await call(pass('prune'), [at('lenet.onnx')], { ...pruning, output: at('p.onnx') })
  await call(pass('quantize'), [at('p.onnx')], { activationBits: 0, ops: ['Conv'], output: at('q.onnx') })
  const info = JSON.parse((await call(command('info'), [at('q.onnx')])).out)
  assert.equal(info.parameters, 61_706)
  for (const l of info.layers) {
    assert.equal(l.weightBits, l.op === 'Conv' ? 4 : 32, l.name)
    if (l.op === 'Gemm') assert.ok(Math.abs(l.sparsity - 0.5) < 1e-3, `${l.name} ${l.sparsity}`)
    else assert.ok(l.sparsity >= 0.5 && l.sparsity < 0.8, `${l.name} ${l.sparsity}`) // rounding adds zeros
  }
  const table = (await call(command('info'), [at('q.onnx')], {}, false)).out
  assert.match(table, /^parameters +61,706$/m)
  // the weight and its mask, both float32
  assert.match(table, /^fc3 +Gemm +10x84 +840 +50\.0 % +32 +32 +840 +6,720$/m)
  assert.match(table, /^all +61,470 +\d/m)
  assert.match(table, /^ +[0-9a-f]{16} +insert-prune-mask +sparsity=0\.5 .* -> nodes=\d+ declined=0$/m)
  assert.deepEqual(
    info.history.map((h: HistoryEntry) => h.pass),
    ['insert-prune-mask', 'insert-fake-quant'],
  )
  const sha = createHash('sha256')
    .update(readFileSync(at('p.onnx')))
    .digest('hex')
  assert.equal(info.history[1].input, sha.slice(0, 16), 'an entry names the file that the step read')
})

test('info says what is frozen', async () => {
  const freeze = (await command('pass').subcommands!()).find((p) => p.name === 'freeze')!
  await call(freeze, [at('lenet.onnx')], { allBut: ['fc3'], output: at('f.onnx') })
  const info = JSON.parse((await call(command('info'), [at('f.onnx')])).out)
  assert.equal(info.frozen.elements, 61_706 - 850)
  assert.deepEqual(
    info.layers.map((l: LayerInfo) => l.frozen),
    [true, true, true, true, false],
  )
  assert.match((await call(command('info'), [at('f.onnx')], {}, false)).out, /^conv1 \(frozen\) +Conv/m)
})

test('info sees through the decoder of a packed file', async () => {
  await call(command('export'), [at('q.onnx')], { format: 'packed', output: at('packed.onnx') })
  const read = async (name: string) => JSON.parse((await call(command('info'), [at(name)])).out)
  const [quantised, packed] = [await read('q.onnx'), await read('packed.onnx')]
  const facts = (info: ModelInfo) => info.layers.map((l) => [l.op, l.weights, l.sparsity, l.weightBits, l.macs])
  assert.deepEqual(facts(packed), facts(quantised))
})

test('diff: a table for people, one document for programs', async () => {
  const { out } = await call(command('diff'), [at('lenet.onnx'), at('q.onnx')], {}, false)
  assert.match(out, /^bytes +[\d,]+ -> [\d,]+$/m)
  assert.match(out, /^conv1 +Conv +6x1x5x5 +0\.0 % -> \d+\.\d % +32 -> 4 +32 +\d/m)
  assert.match(out, /^ {2}\+ QuantizeLinear conv1\.weight\.quantized$/m)
  assert.match(out, /^ {2}\.\.\. and \d+ more \(--all\)$/m)
  const d = JSON.parse((await call(command('diff'), [at('q.onnx'), at('packed.onnx')])).out)
  assert.equal(d.identical, false)
  assert.equal(d.bytes.after, readFileSync(at('packed.onnx')).length)
  const same = await call(command('diff'), [at('q.onnx'), at('q.onnx')], {}, false)
  assert.match(same.out, /^the models are the same$/m)
})

test('MACs of a foreign ResNet-20 whose paddings are computed: 40.55 M', async (t) => {
  const path = '../shared/zoo/akamaster_resnet20_bn_op13.onnx'
  if (!existsSync(path)) return t.skip('no zoo')
  const info = JSON.parse((await call(command('info'), [path])).out)
  assert.equal((info.macs / 1e6).toFixed(2), '40.55')
  assert.equal(info.parameters, 269_722)
})

test('convert: opset up, external data, text and back', async () => {
  const convert = command('convert')
  await call(convert, [at('lenet.onnx')], { output: at('l22.onnx'), opset: 22 })
  assert.equal((await readModel(at('l22.onnx'))).opset, 22)
  await call(convert, [at('lenet.onnx')], { output: at('ext.onnx'), externalData: true })
  const [inline, external] = [await readModel(at('lenet.onnx')), await readModel(at('ext.onnx'))]
  assert.ok(existsSync(at('ext.onnx.data')))
  assert.ok(external.graph.find('fc1.weight')!.constant!.equals(inline.graph.find('fc1.weight')!.constant!))
  await call(convert, [at('lenet.onnx')], { output: at('lenet.onnxtxt'), text: true })
  await call(convert, [at('lenet.onnxtxt')], { output: at('back.onnx') })
  assert.ok(readFileSync(at('back.onnx')).equals(readFileSync(at('lenet.onnx'))))
  await assert.rejects(call(convert, [at('lenet.onnx')], {}), { blame: 'user', message: /needs -o/ })
  await assert.rejects(call(convert, [at('lenet.onnx')], { output: at('x.onnx'), opset: 11 }), { blame: 'user' })
  assert.ok(!existsSync(at('x.onnx')))
})

test('pass: default output next to the input, --explain on stderr', async () => {
  assert.equal(outputBeside('a/student.onnx', 'prune'), 'a/student.prune.onnx')
  assert.equal(outputBeside('a.b/model', 'prune'), 'a.b/model.prune.onnx')
  assert.equal(outputBeside('-', 'prune'), '-')
  const passes = await command('pass').subcommands!()
  const foldBn = passes.find((p) => p.name === 'fold-bn')!
  const { out, err } = await call(foldBn, [at('student.onnx')], { explain: true }, false)
  assert.equal(out, `${at('student.fold-bn.onnx')}\n`)
  assert.match(err, /^bn: .*Relu/m)
})

test('doctor runs a network; completion knows passes and flags', async () => {
  const report = JSON.parse((await call(command('doctor'), [])).out)
  assert.ok(report.forwardMilliseconds > 0 && report.devices.includes('cpu'))
  for (const shell of ['bash', 'zsh', 'fish']) {
    const { out } = await call(command('completion'), [shell], {}, false)
    for (const word of ['prune', 'sparsity', 'build']) assert.ok(out.includes(word), `${shell}: ${word}`)
  }
  await assert.rejects(call(command('completion'), ['tcsh']), { blame: 'user' })
})

test('progress: silent with --quiet, lines without a terminal', () => {
  const sink = new Sink()
  const progress = new Progress('train', 10, sink)
  progress.update(1)
  assert.equal(sink.text, '') // the first plain line comes after 10 s
  const live = Object.assign(new Sink(), { isTTY: true })
  new Progress('train', 10, live).update(5, 'loss 1.5')
  assert.match(live.text, /train {2}\[={12} {12}\] {2}5\/10 {2}loss 1\.5/)
  new Progress('train', 10, null).update(5)
})

test('sensitivity writes JSON and a chart, goes on from them, and feeds prune and quantize', async () => {
  await call(command('build'), ['lenet'], { output: at('s.onnx') })
  const given = { data: 'embedded', limit: 200, ops: ['Conv', 'Gemm'], sparsity: [0.5], weightBits: [4] }
  const first = await call(command('sensitivity'), [at('s.onnx')], given)
  const result = JSON.parse(first.out)
  const file = at('s.sensitivity.json')
  assert.equal(result.output, file)
  assert.equal(result.points.length, 10)
  assert.equal(result.samples, 200)
  assert.match(readFileSync(at('s.sensitivity.svg'), 'utf8'), /^<svg /)
  const again = await call(command('sensitivity'), [at('s.onnx')], { ...given, sparsity: [0.5, 0.9] }, false)
  assert.match(again.err, /10 measurements are already in/)
  assert.match(again.out, /90 % zero/)
  const other = await call(command('sensitivity'), [at('s.onnx')], { ...given, limit: 100, output: file })
  assert.match(other.err, /another model, data set or metric/)
  await assert.rejects(call(command('sensitivity'), [at('s.onnx')], { output: at('s.onnx') }), /no sensitivity scan/)
  const settings = JSON.parse(readFileSync(file, 'utf8')).settings
  for (const name of ['layer-sparsity', 'layer-weight-bits']) assert.equal(Object.keys(settings[name]).length, 5)
})
