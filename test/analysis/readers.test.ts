import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import { test } from 'node:test'
import { type Demand, type ReaderName, readersFor, readersOf, refusalOf } from '../../src/analysis/readers.ts'
import { parseModel } from '../../src/codec/text-parse.ts'
import { exportModel } from '../../src/export/export-model.ts'
import { runPass } from '../../src/passes/run-pass.ts'
import { Net } from '../export/nets.ts'

/**
 * Of the largest output, beyond the reader that comes closest: what a form itself differs by (an int8 file by levels) is not the
 * reader's. A level of 4 bits, which float rounding can flip, is 7 % of the range.
 */
const TOLERANCE = 0.05
const AT_4_BITS = 0.15

const graph = (ir: number, opset: number, body: string) =>
  parseModel(`onnx {ir_version=${ir}}
opset ai.onnx=${opset}
graph "g"
  input %x : float32[4]
${body}
  output %y
end
`)

test('what in a file asks for a newer onnxruntime is named', () => {
  const relu = '  %y : float32[4] = Relu(%x)'
  const quantised = (type: string, between: string) => `  init %s = float32[] [0.1]
  init %z = ${type}[] [1]
  %q : ${type}[4] = QuantizeLinear(%x, %s, %z)
${between}`
  const plain = '  %y : float32[4] = DequantizeLinear(%q, %s, %z)'
  for (const [model, version, because] of [
    [graph(7, 13, relu), '1.16', null],
    [graph(9, 19, relu), '1.16', null],
    [graph(9, 20, relu), '1.18', 'opset 20'],
    [graph(10, 22, relu), '1.30', 'opset 22'],
    [graph(10, 21, relu), '1.18', 'IR 10'],
    [graph(10, 21, quantised('int4', plain)), '1.20', 'int4 values'],
    [graph(10, 21, quantised('uint4', '  %y : float32[4] = Cast(%q) {to=1}')), '1.23', 'a Cast from uint4'],
    [
      graph(
        7,
        13,
        quantised('uint8', '  %c : uint8[4] = Max(%q, %z)\n  %y : float32[4] = DequantizeLinear(%c, %s, %z)'),
      ),
      '1.24',
      'Min or Max of uint8',
    ],
    [graph(7, 13, quantised('uint8', plain)), '1.16', null],
  ] as const) {
    const { since, because: why } = readersOf(model).find((r) => r.reader === 'onnxruntime')!
    assert.deepEqual([since, why], [version, because])
  }
})

test('exports need no newer opset than their nodes, and no 4-bit types but those of int4', async () => {
  const n = new Net(1, { activationBits: 32, sparsity: 0 })
  const model = n.finish(n.conv(n.input([1, 16, 4, 4]), 'c', 16, 32, 3))
  await runPass(model, 'prune', { sparsity: 0.5 })
  const made = async (format: 'packed' | 'int4' | 'int8') => {
    const { model: file } = await exportModel(model, { format })
    return [file.opset, file.irVersion, ...readersOf(file).map((r) => r.since)]
  }
  // BitwiseAnd, which unpacks the mask, came with opset 18
  assert.deepEqual(await made('packed'), [18, 8, '1.16', '1.30', '2026.4', '5.0', '8.6'])
  assert.deepEqual(await made('int4'), [21, 10, '1.20', '1.30', '2026.4', null, '10.0'])
  assert.deepEqual((await made('int8')).slice(0, 2), [13, 7])
})

test('products of matrices in few bits are read by onnxruntime, of other than 4 bits by a newer one, and by OpenVINO', () => {
  for (const [bits, version] of [
    [4, '1.18'],
    [8, '1.30'],
    [2, '1.30'],
  ] as const) {
    const model = parseModel(
      `onnx {ir_version=7}\nopset ai.onnx=13 com.microsoft=1\ngraph "g"\n  input %x : float32[2,64]\n  init %w = uint8[1] [0]\n  %y : float32[2,32] = com.microsoft::MatMulNBits(%x, %w) {K=64, N=32, bits=${bits}, block_size=32}\n  output %y\nend\n`,
    )
    assert.deepEqual(
      readersOf(model).map((r) => r.since),
      [version, '1.30', '2026.4', null, null],
    )
  }
})

interface Measured {
  readonly files: readonly {
    readonly net: string
    readonly bits: string
    readonly file: string
    readonly demands: readonly Demand[]
    readonly readers: readonly {
      readonly reader: ReaderName
      readonly version: string
      readonly maxRelError?: number
      readonly refusal?: string
    }[]
  }[]
}

test('the table says what the bench saw in each reader', () => {
  const { files }: Measured = JSON.parse(readFileSync('bench/results/readers.json', 'utf8'))
  assert.ok(files.length >= 10 && new Set(files.map((f) => f.file)).size >= 6)
  const told = { taken: 0, refused: 0 }
  // a reader that fails on the float network says nothing of other forms of it
  const fails = (net: string, reader: string, version: string): boolean =>
    files.some(
      (f) =>
        f.net === net &&
        f.file === 'format float' &&
        f.readers.some((r) => r.reader === reader && r.version === version && r.refusal !== undefined),
    )
  for (const f of files) {
    const closest = Math.min(...f.readers.map((r) => r.maxRelError ?? Number.POSITIVE_INFINITY))
    assert.ok(closest < TOLERANCE, f.file)
    for (const { reader, version, maxRelError, refusal } of f.readers) {
      const where = `${f.net} ${f.bits} ${f.file} in ${reader} ${version}: ${refusal ?? maxRelError}`
      if (fails(f.net, reader, version)) continue
      const refused = refusalOf(readersFor(f.demands), { reader, version })
      const most = (f.bits.endsWith('a4') ? AT_4_BITS : TOLERANCE) + closest
      const runs = typeof maxRelError === 'number' && maxRelError < most
      if (refused === null) assert.ok(runs, where)
      // an older version than the table speaks of says nothing; WebAssembly reads what the WebGPU does not
      else if (!/was not tried/.test(refused) && reader !== 'onnxruntime-web')
        assert.ok(!runs, `${where}, though ${refused}`)
      told[refused === null ? 'taken' : 'refused']++
    }
  }
  assert.ok(told.taken > 30 && told.refused > 5, JSON.stringify(told))
})
