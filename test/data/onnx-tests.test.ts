/** Folders of test data as ONNX models are published with. */
import assert from 'node:assert/strict'
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, test } from 'node:test'
import { encodeProto } from '../../src/codec/proto.ts'
import { parseModel } from '../../src/codec/text-parse.ts'
import { ArraySet, calibrationData, openDataset, sampleBatches } from '../../src/data/index.ts'
import { measure } from '../../src/evaluate/measure.ts'
import { mse } from '../../src/evaluate/metrics/mse.ts'

const scratch = mkdtempSync(join(tmpdir(), 'mnc-onnx-tests-'))
after(() => rmSync(scratch, { recursive: true }))

const proto = (name: string, dims: readonly number[], values: readonly number[]): Uint8Array =>
  encodeProto('TensorProto', {
    ...{ name, dims: dims.map(BigInt), data_type: 1, raw_data: new Uint8Array(Float32Array.from(values).buffer) },
  })

let folders = 0
function folder(sets: readonly Readonly<Record<string, Uint8Array>>[]): string {
  const at = join(scratch, String(folders++))
  mkdirSync(at)
  for (const [i, files] of sets.entries()) {
    mkdirSync(join(at, `test_data_set_${i}`))
    for (const [name, bytes] of Object.entries(files))
      writeFileSync(join(at, `test_data_set_${i}`, `${name}.pb`), bytes)
  }
  return at
}
async function open(at: string): Promise<ArraySet> {
  const set = await openDataset(`onnx:${at}`, 'test')
  assert.ok(set instanceof ArraySet)
  return set
}

const double = parseModel(`onnx {ir_version=10}
opset ai.onnx=21
graph "g"
  input %x : float32[N,2]
  init %two = float32[] [2]
  %y : float32[N,2] = Mul(%x, %two)
  output %y
end
`)

test('sets of several rows are samples; outputs are what is wanted', async () => {
  const at = folder([
    { input_0: proto('x', [2, 2], [1, 2, 3, 4]), output_0: proto('y', [2, 2], [2, 4, 6, 8]) },
    { input_0: proto('x', [1, 2], [5, 6]), output_0: proto('y', [1, 2], [10, 13]) },
  ])
  const set = await open(at)
  assert.equal(set.size, 3)
  const { samples, metrics } = await measure(double, set, undefined, [mse])
  assert.deepEqual([samples, metrics.mse!.value], [3, 1 / 6])
  assert.equal((await open(join(at, 'test_data_set_1'))).size, 1)
})

test('a state beside a window: each set runs alone', async () => {
  const model = parseModel(`onnx {ir_version=10}
opset ai.onnx=21
graph "g"
  input %x : float32[1,3]
  input %state : float32[2,1,3]
  input %rate : float32[]
  init %axes = int64[2] [0, 1]
  %sum : float32[3] = ReduceSum(%state, %axes) {keepdims=0}
  %a : float32[1,3] = Add(%x, %sum)
  %y : float32[1,3] = Mul(%a, %rate)
  output %y
end
`)
  const one = (k: number) => ({
    input_0: proto('x', [1, 3], [k, 2, 3]),
    input_1: proto('', [2, 1, 3], [1, 0, 0, 1, 0, 0]),
    input_2: proto('rate', [], [10]),
    output_0: proto('y', [1, 3], [10 * (k + 2), 20, 30]),
  })
  const set = await openDataset(`onnx:${folder([one(1), one(7)])}`, 'test', { map: { state: 'input_1' } })
  assert.ok(set instanceof ArraySet)
  const { samples, metrics } = await measure(model, set, undefined, [mse])
  assert.deepEqual([samples, metrics.mse!.value], [2, 0])
  const seen: unknown[] = []
  for await (const feeds of (await calibrationData(model, set)).batches())
    seen.push([feeds.x!.dims, feeds.state!.dims, feeds.rate!.dims, feeds.x!.toFloat32()[0]])
  assert.deepEqual(seen, [
    [[1, 3], [2, 1, 3], [], 1],
    [[1, 3], [2, 1, 3], [], 7],
  ])
})

test('what is missing, damaged or unlike the first set is said with its file', async () => {
  const good = proto('x', [1, 2], [1, 2])
  const cases: [string, RegExp][] = [
    [join(scratch, 'none'), /there is no folder/],
    [folder([]), /has no folders test_data_set_0/],
    [folder([{ output_0: good }]), /has no files input_0\.pb/],
    [folder([{ input_0: new Uint8Array(0) }]), /input_0\.pb: it is empty/],
    [folder([{ input_0: good.subarray(0, good.length - 3) }]), /input_0\.pb: /],
    [folder([{ input_0: proto('x', [1, 3], [1, 2]) }]), /input_0\.pb: .*needs 12 bytes but has 8/],
    [folder([{ input_0: proto('x', [0, 2], []) }]), /there are no numbers in it/],
    [folder([{ input_0: good }, { input_0: good, input_1: good }]), /test_data_set_1 has 2 tensors, the first set 1/],
    [
      folder([{ input_0: good }, { input_0: proto('x', [1, 3], [1, 2, 3]) }]),
      /test_data_set_1.*is 'x' float32\[3\], in the first set 'x' float32\[2\]/,
    ],
    [folder([{ input_0: good }, { input_0: proto('z', [1, 2], [1, 2]) }]), /is 'z' float32\[2\], in the first set 'x'/],
  ]
  for (const [at, message] of cases) await assert.rejects(open(at), message, String(message))
  const wrong = await open(folder([{ input_0: proto('x', [1, 3], [1, 2, 3]) }]))
  await assert.rejects(
    sampleBatches(double, wrong, undefined, 1).next(),
    /'x' has the shape \[samples, 3\].*takes \[N, 2\]/,
  )
})
