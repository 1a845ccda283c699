/** What a file declares survives every pass and export, at every IR version and opset, and the result is valid. */
import assert from 'node:assert/strict'
import test from 'node:test'
import fc from 'fast-check'
import { modelInfo } from '../../src/analysis/model-info.ts'
import { MncError } from '../../src/base/errors.ts'
import { decodeModel, encodeModel } from '../../src/codec/codec.ts'
import { modelToProto } from '../../src/codec/codec-encode.ts'
import { decodeType } from '../../src/codec/codec-type.ts'
import { allInline } from '../../src/codec/placement.ts'
import type { Proto } from '../../src/codec/proto-schema.ts'
import { printModel } from '../../src/codec/text.ts'
import { parseModel } from '../../src/codec/text-parse.ts'
import { exportModel } from '../../src/export/export-model.ts'
import { cloneModel } from '../../src/graph/clone.ts'
import type { Model } from '../../src/graph/model.ts'
import { formatType } from '../../src/graph/types.ts'
import { findPass, runPass } from '../../src/passes/run-pass.ts'
import { score } from '../../src/score/score.ts'
import { type Declaring, declaringFile, declaringModel } from '../support/declaring.ts'
import { checkerIr, checkFiles } from '../support/onnx-checker.ts'
import { randomBatches, relativeError, runModel } from './golden.ts'

/** Pairs of IR version and opset as they were released together, and later pairs that exporters write. */
const VERSIONS = [
  ...([
    [3, 1],
    [3, 5],
    [3, 6],
    [3, 7],
    [3, 8],
    [4, 9],
    [6, 9],
    [6, 11],
    [7, 13],
    [8, 13],
    [8, 17],
    [10, 21],
  ] as const),
]
/** onnxruntime has kernels from here on. */
const RUNS_FROM = 7

const cases: fc.Arbitrary<Declaring> = fc
  .record({
    version: fc.constantFrom(...VERSIONS),
    overridable: fc.constantFrom('none', 'some', 'all'),
    ...{
      sparse: fc.boolean(),
      norm: fc.boolean(),
      passthrough: fc.boolean(),
      documented: fc.boolean(),
      seed: fc.nat(1e6),
    },
    functions: fc.constantFrom(null, 0, 1),
  })
  .map(({ version: [ir, opset], sparse, functions, ...rest }) => ({
    ...{ ...rest, ir, opset, sparse: sparse && ir >= 6 },
    functionOpset: functions === null || ir < 8 ? null : opset - functions,
  }))

const text = (b: Uint8Array | undefined): string => new TextDecoder().decode(b)

/** What the file says of itself and of its inputs and outputs. */
function declarations(model: Model) {
  const p = modelToProto(model, allInline(model))
  const ports = (list: readonly Proto<'ValueInfoProto'>[]): string[] =>
    list.map((v) => `${v.name} ${formatType(decodeType(v.type))} ${text(v.doc_string)}`)
  const fed = new Set(model.graph.fed.map((v) => v.name))
  return {
    inputs: ports(p.graph!.input!.filter((v) => fed.has(v.name!))),
    outputs: ports(p.graph!.output!),
    graph: [p.graph!.name, text(p.graph!.doc_string)],
    model: [text(p.doc_string), p.producer_name, model.metadata.get('author')],
    sparse: (p.graph!.sparse_initializer ?? []).map((s) => s.values?.name),
  }
}

const overridable = (model: Model): string[] => model.graph.inputs.filter((v) => v.default).map((v) => v.name)

const PASSES: readonly (readonly [name: string, options?: Readonly<Record<string, unknown>>])[] = [
  ...([['prune', { ops: ['Conv', 'MatMul'] }], ['fold-bn'], ['fold-constants'], ['eliminate-dead']] as const),
  ...([['freeze', { ops: ['Conv'] }], ['decompose-ops'], ['quantize', { weightBits: 8, activationBits: 8 }]] as const),
  ...([['upgrade-opset'], ['inline-functions'], ['lower-fake-quant'], ['remove-channels']] as const),
]

/** Operators of old opsets that no pass can lift, and weights that all have to be left alone, are model errors. */
const isExpected = (error: unknown, { opset, overridable, ir }: Declaring, keep: boolean): boolean => {
  if (!(error instanceof MncError) || error.blame !== 'model') return false
  if (keep && overridable === 'all' && ir >= 4) return /leave out --keep-overridable/.test(error.describe())
  return opset < RUNS_FROM
}

for (const [name, options = {}] of PASSES)
  test(`${name} keeps what a file declares`, () =>
    fc.assert(
      fc.asyncProperty(cases, fc.boolean(), async (d, keepOverridable) => {
        const source = declaringModel(d)
        const before = declarations(source)
        const model = cloneModel(source)
        const log: string[] = []
        const context = { calibration: randomBatches(model, 1), log: (line: string) => void log.push(line) }
        const bakes = !['eliminate-dead', 'freeze', 'upgrade-opset', 'inline-functions'].includes(name)
        try {
          await runPass(model, findPass(name), { ...options, ...(bakes && { keepOverridable }) }, context)
        } catch (error) {
          if (isExpected(error, d, keepOverridable)) return
          throw error
        }
        const written = decodeModel(encodeModel(model))
        assert.deepEqual(declarations(written), before)
        assert.deepEqual(overridable(written), bakes && !keepOverridable ? [] : overridable(source))
        const warnings = log.filter((line) => line.includes('with a default'))
        assert.equal(warnings.length, bakes && overridable(source).length > 0 ? 1 : 0)
        if (warnings[0]) assert.match(warnings[0], new RegExp(`\\b${overridable(source).length} inputs?\\b`))
        if (d.opset < RUNS_FROM) return
        const error = relativeError(await runModel(source), await runModel(written))
        const bound = ['prune', 'quantize'].includes(name) ? 2 : 1e-4
        assert.ok(error < bound, `outputs differ by ${error}`)
      }),
      { numRuns: 12, seed: 3 },
    ))

test('exports keep what a file declares, and compute the same', () =>
  fc.assert(
    fc.asyncProperty(cases, fc.constantFrom('packed', 'int4', 'int8'), fc.boolean(), async (d, format, keep) => {
      const source = declaringModel(d)
      const before = declarations(source)
      try {
        const calibration = randomBatches(source, 1)
        const bits = { ops: ['Conv', 'MatMul'], weightBits: 4, activationBits: 8, keepOverridable: keep }
        await runPass(source, 'quantize', bits, { calibration })
      } catch (error) {
        if (isExpected(error, d, keep)) return
        throw error
      }
      const { model, report } = await exportModel(source, { format, keepOverridable: keep })
      const written = decodeModel(encodeModel(model))
      assert.deepEqual(declarations(written), before)
      assert.deepEqual(overridable(written), overridable(source))
      assert.ok(report.weights > 0)
      const [want, disabled, all] = [source, written, written].map((m, i) => [m, i === 2 ? 'all' : 'disabled'] as const)
      const reference = await runModel(want![0], 1, 'disabled')
      for (const [m, level] of [disabled!, all!])
        assert.ok(relativeError(reference, await runModel(m, 1, level)) < 0.05, `${format} at ${level}`)
    }),
    { numRuns: 30, seed: 4 },
  ))

test('text and binary form hold all that was declared', () =>
  fc.assert(
    fc.property(cases, (d) => {
      const file = declaringFile(d)
      const model = decodeModel(file)
      assert.deepEqual(encodeModel(model), file)
      assert.deepEqual(encodeModel(parseModel(printModel(model))), file)
      assert.deepEqual(encodeModel(cloneModel(model)), file)
    }),
    { numRuns: 60, seed: 5 },
  ))

test('onnx.checker takes what passes write, new initializers of IR 3 included', async (t) => {
  const newest = checkerIr()
  if (newest === null) return t.skip('python3-onnx is not there')
  const files: { what: string; bytes: Uint8Array }[] = []
  for (const [seed, [ir, opset]] of VERSIONS.entries()) {
    if (ir > newest) continue
    const functionOpset = ir >= 8 ? opset : null
    const d: Declaring = {
      ir,
      opset,
      overridable: seed % 2 === 0 ? 'all' : 'none',
      sparse: false,
      functionOpset,
      norm: true,
      seed,
      passthrough: false,
      documented: true,
    }
    files.push({ what: `IR ${ir} opset ${opset}: as it is`, bytes: declaringFile(d) })
    for (const [name, options = {}] of PASSES) {
      const model = declaringModel(d)
      try {
        if (name === 'quantize' || (name === 'upgrade-opset' && opset < RUNS_FROM)) continue
        const own = name === 'upgrade-opset' ? { to: 13 } : options
        await runPass(model, findPass(name), own, { calibration: randomBatches(model, 1) })
      } catch (error) {
        if (isExpected(error, d, false)) continue
        throw error
      }
      files.push({ what: `IR ${ir} opset ${opset}: ${name}`, bytes: encodeModel(model) })
    }
  }
  const said = checkFiles(files.map((f) => f.bytes))
  const faults = said.flatMap((line, i) => (line === 'valid' ? [] : [`${files[i]!.what}: ${line}`]))
  assert.deepEqual(faults, [])
  t.diagnostic(`${files.length} files checked`)
})

test('info and score count inputs with a default as the constants that they are unless a caller says otherwise', async () => {
  for (const overridable of ['some', 'all'] as const) {
    const d = {
      ir: 8,
      opset: 17,
      sparse: false,
      functionOpset: null,
      norm: true,
      passthrough: false,
      documented: true,
      seed: 9,
    }
    const [plain, open] = [declaringModel({ ...d, overridable: 'none' }), declaringModel({ ...d, overridable })]
    const [a, b] = [await modelInfo(plain), await modelInfo(open)]
    assert.deepEqual({ ...b, bytes: 0 }, { ...a, bytes: 0 })
    assert.ok(a.layers.length > 0)
    assert.deepEqual(await score(open), await score(plain))
  }
})
