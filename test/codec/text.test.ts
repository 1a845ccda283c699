import assert from 'node:assert/strict'
import { mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import test from 'node:test'
import fc from 'fast-check'
import { MncError } from '../../src/base/errors.ts'
import { decodeModel, encodeModel, readModel, writeModel } from '../../src/codec/codec.ts'
import { printModel } from '../../src/codec/text.ts'
import { parseModel } from '../../src/codec/text-parse.ts'
import { float } from '../../src/graph/attribute.ts'
import { Graph } from '../../src/graph/graph.ts'
import { Model } from '../../src/graph/model.ts'
import { Tensor } from '../../src/graph/tensor.ts'
import { verifyModel } from '../../src/graph/verify.ts'
import { ModelMaker } from '../graph/arbitrary.ts'
import { nodeTests, zoo } from '../graph/files.ts'

function sample(): Model {
  const graph = new Graph('main')
  const x = graph.addInput('x', { elem: 'float32', dims: ['N', 3, null] })
  const w = graph.addInitializer('w', Tensor.float32([2, 2], [0.1, -0, 1e-7, Number.NaN]))
  w.metadata.set('mnc.frozen', 'true')
  const big = graph.addInitializer('big', Tensor.from('int8', [65], new Int8Array(65)))
  const body = new Graph('then', graph)
  body.addOutput(body.append().op('Neg', [x], {}, { name: 'n' }))
  const end = graph.append()
  const y = end.op('Conv', [x, w, null], { strides: [1, 2], alpha: float(1), mode: 'same' }, { name: 'y' })
  y.producer!.metadata.set('mnc.role', 'prune mask')
  const node = end.node({
    op: 'Split',
    domain: 'com.microsoft',
    inputs: [y, big],
    outputs: ['a:0', '', 'b'],
    name: 'split',
  })
  node.setAttribute('then_branch', { kind: 'graph', value: body })
  graph.addOutput(node.outputs[2]!)
  const model = new Model(graph)
  model.metadata.set('mnc.preprocess', '{}')
  return model
}

const golden = `onnx {ir_version=10}
opset ai.onnx=21
@mnc.preprocess="{}"
graph "main"
  input %x : float32[N,3,?]
  init %w @mnc.frozen=true = float32[2,2] [0.1, -0, 1e-7, nan]
  init %big = int8[65] sha256 98ce42deef51d402
  %y = Conv(%x, %w, _) {strides=[1, 2], alpha=1.0, mode="same"} #name "y" @mnc.role="prune mask"
  %a:0, _, %b = com.microsoft::Split(%y, %big) {then_branch=graph "then"
      %n = Neg(%x) #name "n"
      output %n
    end} #name "split"
  output %b
end
`

test('the summary is what a golden file holds', () => {
  assert.equal(printModel(sample(), { tensors: 'summary' }), golden)
})

test('the full form is read back, a summary with large tensors is not', () => {
  const again = parseModel(`// a comment\n${printModel(sample())}`)
  verifyModel(again)
  assert.deepEqual(encodeModel(again), encodeModel(sample()))
  assert.throws(() => parseModel(golden), /line 7: this text is a summary/)
})

test('any model, printed and parsed, is the same model', () => {
  fc.assert(
    fc.property(fc.gen(), (g) => {
      const model = new ModelMaker(fc, g).model()
      verifyModel(model)
      const text = printModel(model)
      const parsed = parseModel(text)
      verifyModel(parsed)
      assert.equal(printModel(parsed), text)
      assert.deepEqual(encodeModel(parsed), encodeModel(model))
    }),
    { numRuns: 100, seed: 11, endOnFailure: true },
  )
})

/** A file has types only for inputs and outputs, unless it had value_info. */
function forgetInnerTypes(graph: Graph): void {
  for (const v of graph.values()) if (v.producer && !v.isOutput) v.setType(null)
  for (const n of graph.nodes()) for (const body of n.subgraphs) forgetInnerTypes(body)
}

test('any model, encoded and decoded, is the same model', () => {
  fc.assert(
    fc.property(fc.gen(), (g) => {
      const model = new ModelMaker(fc, g).model()
      const bytes = encodeModel(model)
      const decoded = decodeModel(bytes)
      verifyModel(decoded)
      assert.deepEqual(encodeModel(decoded), bytes)
      for (const m of [model, decoded]) forgetInnerTypes(m.graph)
      const [a, b] = [model, decoded].map((m) => printModel(m, { tensors: 'summary' }))
      assert.equal(a, b)
    }),
    { numRuns: 100, seed: 12, endOnFailure: true },
  )
})

test('real models come through the text form', (t) => {
  const files = [
    ...zoo().filter((f) => /resnet8|mnist|lightgbm|silero/.test(f)),
    ...nodeTests().filter((_, i) => i % 20 === 0),
  ]
  if (files.length === 0) return t.skip('files not there')
  for (const file of files) {
    const text = printModel(decodeModel(readFileSync(file), { folder: dirname(file), file }))
    const parsed = parseModel(text)
    assert.equal(printModel(parsed), text, file)
    // What text keeps, the binary form keeps too, unknown fields and doc strings included.
    assert.equal(printModel(decodeModel(encodeModel(parsed))), text, file)
  }
  t.diagnostic(`${files.length} files`)
})

test('.onnxtxt files hold the text form', async (t) => {
  const folder = mkdtempSync(join(tmpdir(), 'mnc-text-'))
  t.after(() => rmSync(folder, { recursive: true }))
  const path = join(folder, 'm.onnxtxt')
  await writeModel(sample(), path)
  assert.match(readFileSync(path, 'utf8'), /^onnx \{ir_version=10\}/)
  assert.deepEqual(encodeModel(await readModel(path)), encodeModel(sample()))
  await assert.rejects(writeModel(sample(), path, { externalData: true }), /cannot have external data/)
})

const inGraph = (lines: string): string => `onnx {ir_version=10}\nopset ai.onnx=21\ngraph "g"\n${lines}\nend\n`
const wrong: [what: string, text: string, RegExp][] = [
  ['other text', 'hello', /line 1: 'onnx' expected, found "hello"/],
  ['an unknown value', inGraph('%y = Relu(%x)'), /line 4: 'x' is not defined before this/],
  ['a value defined twice', inGraph('input %x\n%x = Relu(%x)'), /line 5: 'x' is defined twice/],
  ['an unknown type', inGraph('input %x : float33[1]'), /'float33' is not an element type/],
  ['too few values', inGraph('init %w = float32[3] [1, 2]'), /line 4: 3 values expected, found 2/],
  ['a value out of range', inGraph('init %w = int8[1] [300]'), /does not fit int8/],
  ['a word for a number', inGraph('init %w = float32[1] [one]'), /does not fit float32/],
  ['base64 of the wrong length', inGraph('init %w = float32[1] base64 "AAA="'), /line 4: .* needs 4 bytes but has 2/],
  ['no base64', inGraph('init %w = float32[1] base64 "?"'), /not base64/],
  ['a graph without end', 'onnx {}\nopset\ngraph "g"\n', /found the end of the file/],
  ['an attribute given twice', inGraph('%y = Op() {a=1, a=2}'), /given twice/],
]

for (const [what, text, message] of wrong)
  test(`${what} in a text is one error naming the line`, () => {
    assert.throws(
      () => parseModel(text),
      (e: unknown) => e instanceof MncError && e.blame === 'model' && message.test(e.message),
    )
  })
