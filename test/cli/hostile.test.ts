/** Whole commands on models that abort, hang or fill a process that trusts them: each ends in time, with 0 or 2. */
import assert from 'node:assert/strict'
import { existsSync, mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import test, { after } from 'node:test'
import { readModel } from '../../src/codec/codec.ts'
import { runCommandLine } from '../../src/commands/program.ts'
import { probeLimits, setProbeLimits } from '../../src/runtime/probe-options.ts'
import {
  aborting,
  bombs,
  doubling,
  endlessLoop,
  hugeInput,
  longLoop,
  ofType,
  recurrent,
  written,
} from '../support/hostile.ts'
import { Sink } from './sink.ts'

const folder = mkdtempSync(join(tmpdir(), 'mnc-hostile-'))
after(() => rmSync(folder, { recursive: true }))
const at = (name: string): string => join(folder, name)
setProbeLimits({ bytes: Math.min(probeLimits().bytes, 2 ** 30) })

interface Outcome {
  readonly code: number
  readonly out: string
  readonly err: string
  readonly seconds: number
}

async function mnc(...args: readonly string[]): Promise<Outcome> {
  const [stdout, stderr] = [new Sink(), new Sink()]
  const start = performance.now()
  const code = await runCommandLine(args, { stdout, stderr })
  return { code, out: stdout.text, err: stderr.text, seconds: (performance.now() - start) / 1000 }
}

/** The command ends in time with one of the codes. */
async function ends(args: readonly string[], ...codes: readonly number[]): Promise<Outcome> {
  const outcome = await mnc(...args)
  assert.ok(codes.includes(outcome.code), `${args.join(' ')}: ${outcome.code}, ${outcome.err}`)
  assert.ok(outcome.seconds < 60, `${args.join(' ')}: ${outcome.seconds} s`)
  return outcome
}

const hasten = ['--probe-seconds', '1']

test('info and diff tell what is known where the engine aborts or does not end, and why not more', async () => {
  for (const [name, model, why] of [
    ['abort', aborting(), /makes onnxruntime abort/],
    ['loop', endlessLoop(), /more than 1 s/],
    ['long', longLoop(), /more than 1 s/],
  ] as const) {
    const path = await written(model, at(`${name}.onnx`))
    const { out, err } = await ends(['info', path, '--json', ...hasten], 0)
    const info = JSON.parse(out)
    assert.equal(info.nodes, model.graph.nodeCount)
    assert.match(err, why)
    assert.equal(err.trim().split('\n').length, 1, `one warning: ${err}`)
    const same = await ends(['diff', path, path, ...hasten], 0)
    assert.match(same.out, /the models are the same/)
    assert.equal(same.err.trim().split('\n').length, 1, `one warning: ${same.err}`)
    if (name === 'long') continue
    await ends(['score', path, ...hasten], 2)
    await ends(['pass', 'remove-channels', path, '-o', at('o.onnx'), ...hasten], 0, 2)
  }
})

test('constants of 16 GiB are left, with their size, and nothing is computed for it', async () => {
  for (const [name, make] of Object.entries(bombs)) {
    const path = await written(make(), at(`${name}.onnx`))
    const folded = await ends(['pass', 'fold-constants', path, '-o', at('o.onnx'), '--explain', ...hasten], 0)
    // a computed size shows only when it is computed: the process runs into a limit
    const reason =
      name === 'computed' ? /cannot be computed: running the model took more/ : /would take 171[78]\d{7} bytes/
    assert.match(folded.err, reason, name)
    const left = await readModel(at('o.onnx'))
    assert.ok(left.graph.find('k')!.producer, name)
    await ends(['info', path, ...hasten], 0)
    await ends(['score', path, ...hasten], 0, 2)
  }
})

test('what can be folded next to a bomb is', async () => {
  const model = bombs.Tile!()
  const b = model.graph.append()
  const three = b.op('Add', [b.scalar(1), b.scalar(2)], {}, { name: 'three' })
  model.graph.addOutput(b.op('Mul', [model.graph.find('x')!, three], {}, { name: 'z' }))
  const path = await written(model, at('beside.onnx'))
  await ends(['pass', 'fold-constants', path, '-o', at('o.onnx')], 0)
  const folded = await readModel(at('o.onnx'))
  assert.equal(folded.graph.find('three')!.constant?.item(), 3)
})

test('functions that multiply are counted first', async () => {
  for (const model of [doubling(30), doubling(19, 3)]) {
    const path = await written(model, at('functions.onnx'))
    const { out, err } = await ends(['info', path, '--json'], 0)
    assert.equal(JSON.parse(out).nodes, 1)
    assert.match(err, /the model has [\d,]+ nodes, more than 500,000/)
    for (const args of [
      ['score', path],
      ['pass', 'inline-functions', path, '-o', at('o.onnx')],
      ['export', path, '-o', at('o.onnx')],
    ])
      assert.match((await ends(args, 2)).err, /with its functions inlined/)
  }
  const few = await written(doubling(8), at('few.onnx'))
  await ends(['pass', 'inline-functions', few, '-o', at('o.onnx')], 0)
  assert.equal((await readModel(at('o.onnx'))).graph.nodeCount, 128)
})

test('dims beyond a typed array: a question mark, or exit 2', async () => {
  const path = await written(hugeInput(), at('dims.onnx'))
  const { out, err } = await ends(['info', path, '--json'], 0)
  assert.equal(JSON.parse(out).layers[0].macs, null)
  assert.match(err, /too large to be run/)
  await ends(['diff', path, path], 0)
  await ends(['score', path], 2)
  assert.match((await ends(['pass', 'remove-channels', path, '-o', at('none.onnx')], 2)).err, /would take 48 GiB/)
  assert.match(
    (
      await ends(
        [
          'pass',
          'quantize',
          path,
          '--ops',
          'MatMul',
          '--first-layer',
          'quantize',
          '--data',
          'random',
          '-o',
          at('none.onnx'),
        ],
        2,
      )
    ).err,
    /48 GiB/,
  )
  assert.ok(!existsSync(at('none.onnx')))
})

test('recurrent layers of too many or unknown steps are left, with the reason; those of a few are written out', async () => {
  for (const op of ['LSTM', 'GRU', 'RNN'] as const)
    for (const first of [false, true]) {
      for (const [steps, why] of [
        [2147483647, /2147483647 steps/],
        [2000, /2000 steps, more than 1024/],
      ] as const) {
        const path = await written(recurrent(op, steps, { first }), at('long.onnx'))
        const { err } = await ends(['pass', 'decompose-ops', path, '-o', at('o.onnx'), '--explain'], 0)
        assert.match(err, why)
        const left = await readModel(at('o.onnx'))
        assert.deepEqual(left.graph.find('x')!.type?.dims, [steps, 2, 4], 'nothing changed')
      }
      const open = await written(recurrent(op, 'T', { first }), at('open.onnx'))
      await ends(['pass', 'decompose-ops', open, '--batch', '3', '-o', at('o.onnx')], 0)
      assert.ok(![...(await readModel(at('o.onnx'))).graph.nodes()].some((n) => n.op === op))
      // without a sequence output every command still counts it
      for (const command of ['info', 'score']) {
        const few = await written(recurrent(op, 5, { first, width: 8 }), at('few.onnx'))
        await ends([command, few], 0)
      }
    }
})

test('types that cannot be read from onnxruntime: commands that run the model for answers', async () => {
  const kinds = [
    [22, 21],
    [21, 21],
    [16, 21],
    [17, 21],
    [26, 25],
  ] as const
  for (const [code, opset] of kinds)
    for (const exposed of [false, true]) {
      const path = await written(ofType(code, { opset, exposed }), at('type.onnx'))
      const { out } = await ends(['info', path, '--json'], 0)
      const [layer] = JSON.parse(out).layers
      if (opset === 21) assert.equal(layer.macs, 6 * 64, `${code}`)
      await ends(['diff', path, path], 0)
      await ends(['score', path], 0, 2)
      await ends(['check', path, path], 0, 2)
      await ends(['sensitivity', path, '--weight-bits', '8', '-o', at('s.json')], 0, 2)
      rmSync(at('s.json'), { force: true })
    }
})
