import assert from 'node:assert/strict'
import {
  cpSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import test, { type TestContext } from 'node:test'
import { MncError } from '../../src/base/errors.ts'
import { decodeModel, encodeModel, readModel, writeModel } from '../../src/codec/codec.ts'
import { placeTensors } from '../../src/codec/placement.ts'
import { decodeProto } from '../../src/codec/proto.ts'
import { cloneModel } from '../../src/graph/clone.ts'
import { Graph } from '../../src/graph/graph.ts'
import { Model } from '../../src/graph/model.ts'
import { Tensor } from '../../src/graph/tensor.ts'
import { externalZoo } from '../graph/files.ts'
import { firstDifference, type Written, write } from '../graph/wire.ts'

function scratch(t: TestContext): string {
  const folder = mkdtempSync(join(tmpdir(), 'mnc-external-'))
  t.after(() => rmSync(folder, { recursive: true }))
  return folder
}

/** A model of one external float32[2] tensor 'w' with these external_data entries. */
const external = (entries: Readonly<Record<string, string>>): Uint8Array => {
  const props = Object.entries(entries).map(
    ([k, v]) =>
      [
        13,
        [
          [1, k],
          [2, v],
        ],
      ] as const,
  )
  return write([
    [1, 8],
    [
      7,
      [
        [5, [[1, 2], [2, 1], [8, 'w'], [14, 1], ...props]],
        [12, [[1, 'w']]],
      ],
    ],
  ])
}
const bytesOf = (...values: number[]) => new Uint8Array(Float32Array.from(values).buffer)

test('offset and length are honoured, reading is lazy and only of the slice', async (t) => {
  const folder = scratch(t)
  const path = join(folder, 'm.onnx')
  writeFileSync(path, external({ location: 'sub/w.bin', offset: '4', length: '8', checksum: 'unverified' }))
  mkdirSync(join(folder, 'sub'))
  writeFileSync(join(folder, 'sub/w.bin'), bytesOf(1, 2, 3, 4))
  const model = cloneModel(await readModel(path))
  const w = model.graph.find('w')!.constant!
  assert.deepEqual(w.origin?.external && { offset: w.origin.external.offset, length: w.origin.external.length }, {
    offset: 4,
    length: 8,
  })
  assert.deepEqual([...w.toFloat32()], [2, 3])
  // Beside the old file the reference stays, elsewhere the data comes along.
  await writeModel(model, join(folder, 'copy.onnx'))
  assert.equal(firstDifference(readFileSync(path), readFileSync(join(folder, 'copy.onnx'))), undefined)
  const elsewhere = join(scratch(t), 'inline.onnx')
  await writeModel(model, elsewhere)
  const inline = decodeModel(readFileSync(elsewhere))
  assert.deepEqual([...inline.graph.find('w')!.constant!.toFloat32()], [2, 3])
  // Changed behind our back: an error, not other numbers.
  writeFileSync(join(folder, 'sub/w.bin'), bytesOf(9, 9, 9, 9, 9))
  assert.throws(() => w.bytes, /changed after the model was read/)
})

test('without offset and length the data starts at 0', async (t) => {
  const folder = scratch(t)
  writeFileSync(join(folder, 'm.onnx'), external({ location: 'w.bin' }))
  writeFileSync(join(folder, 'w.bin'), bytesOf(5, 6))
  const model = await readModel(join(folder, 'm.onnx'))
  assert.deepEqual([...model.graph.find('w')!.constant!.toFloat32()], [5, 6])
})

test('data in more files than are held open, at any offset: kept, taken in, gathered', async (t) => {
  const folder = scratch(t)
  const count = 300
  const path = join(folder, 'm.onnx')
  const entry = (key: string, value: string): Written => [
    [1, key],
    [2, value],
  ]
  const tensors = Array.from({ length: count }, (_, i): Written[number] => {
    const [location, offset] = [`data/${i >> 1}.bin`, String(3 + 12 * (i & 1))]
    const props = Object.entries({ location, offset, length: '12' }).map(([k, v]): Written[number] => [13, entry(k, v)])
    return [5, [[1, 3], [2, 1], [8, `w${i}`], [14, 1], ...props]]
  })
  writeFileSync(
    path,
    write([
      [1, 8],
      [7, [...tensors, [12, [[1, 'w0']]]]],
    ]),
  )
  mkdirSync(join(folder, 'data'))
  // two tensors a file, behind three bytes of something else
  for (let f = 0; f < count / 2; f++)
    writeFileSync(
      join(folder, `data/${f}.bin`),
      Buffer.concat([Buffer.from('abc'), bytesOf(2 * f, 1, 2), bytesOf(2 * f + 1, 1, 2), Buffer.from('rest')]),
    )
  const model = await readModel(path)
  await writeModel(model, join(folder, 'beside.onnx'))
  assert.equal(firstDifference(readFileSync(path), readFileSync(join(folder, 'beside.onnx'))), undefined)
  const other = scratch(t)
  await writeModel(model, join(other, 'inline.onnx'))
  await writeModel(model, join(other, 'one.onnx'), { externalData: true })
  // 12 bytes are too few to lie outside
  assert.deepEqual(readdirSync(other).sort(), ['inline.onnx', 'one.onnx'])
  for (const name of ['inline.onnx', 'one.onnx']) {
    const again = await readModel(join(other, name))
    for (let i = 0; i < count; i++)
      assert.deepEqual([...again.graph.find(`w${i}`)!.constant!.toFloat32()], [i, 1, 2], `${name} w${i}`)
  }
})

const refused: [what: string, entries: Record<string, string>, RegExp][] = [
  ['an absolute path', { location: '/etc/hostname' }, /path outside the folder of the model/],
  ['a path upwards', { location: '../outside.bin' }, /path outside the folder of the model/],
  ['a path upwards within', { location: 'sub/../../outside.bin' }, /path outside the folder of the model/],
  ['a link outwards', { location: 'link.bin' }, /link that leads outside the folder of the model/],
  [
    'a file behind a linked folder',
    { location: 'linked/outside.bin' },
    /link that leads outside the folder of the model/,
  ],
  ['a missing file', { location: 'nothing.bin' }, /does not exist/],
  ['a folder', { location: 'sub' }, /not a file/],
  ['no location', { offset: '0' }, /no location/],
  ['a slice past the end', { location: 'w.bin', offset: '4' }, /4\.\.12 of 'w.bin', which has 8 bytes/],
  ['a length that is not the tensor’s', { location: 'w.bin', length: '4' }, /needs 8 bytes but declares 4/],
  ['an offset that is not a number', { location: 'w.bin', offset: '-4' }, /offset .* is '-4'/],
]

test('data that is not safely there is refused when the model is read', async (t) => {
  const outside = scratch(t)
  const folder = join(outside, 'model')
  mkdirSync(join(folder, 'sub'), { recursive: true })
  writeFileSync(join(outside, 'outside.bin'), bytesOf(1, 2))
  writeFileSync(join(folder, 'w.bin'), bytesOf(1, 2))
  symlinkSync(join(outside, 'outside.bin'), join(folder, 'link.bin'))
  symlinkSync(outside, join(folder, 'linked'))
  for (const [what, entries, message] of refused) {
    const path = join(folder, 'm.onnx')
    writeFileSync(path, external(entries))
    await assert.rejects(
      readModel(path),
      (e: unknown) => e instanceof MncError && e.blame === 'model' && e.file === path && message.test(e.message),
      what,
    )
  }
})

function sample(): Model {
  const graph = new Graph('main')
  const x = graph.addInput('x', { elem: 'float32', dims: [300] })
  const big = (seed: number) =>
    Tensor.float32(
      [300],
      Float32Array.from({ length: 300 }, (_, i) => i * seed),
    )
  const w = graph.addInitializer('w', big(1))
  const small = graph.addInitializer('small', Tensor.float32([1], [7]))
  const body = new Graph('body', graph)
  const inner = body.addInitializer('inner', big(3))
  body.addOutput(body.append().op('Add', [x, inner]))
  const y = graph.append().op('Add', [graph.append().op('Add', [x, w]), small])
  const branch = graph.append().op('If', [graph.addInitializer('condition', Tensor.scalar(1, 'bool'))])
  branch.producer!.setAttribute('then_branch', { kind: 'graph', value: body })
  graph.addOutput(y)
  graph.addOutput(branch)
  return new Model(graph)
}

test('--external-data puts large tensors, aligned, into one file next to the model', async (t) => {
  const folder = scratch(t)
  const path = join(folder, 'net.onnx')
  const model = sample()
  await writeModel(model, path, { externalData: true })
  assert.deepEqual(readdirSync(folder).sort(), ['net.onnx', 'net.onnx.data'])
  const proto = decodeProto('ModelProto', readFileSync(path)).graph!
  const places = proto.initializer!.map((p) => (p.external_data ?? []).map((e) => e.value))
  assert.deepEqual(places, [['net.onnx.data', '0', '1200'], [], []])
  const again = await readModel(path)
  assert.deepEqual(Buffer.from(encodeModel(again)), Buffer.from(encodeModel(model)))
  const inner = [...again.graph.allNodes()].find((n) => n.op === 'If')!.subgraphs[0]!.find('inner')!.constant!
  assert.equal(inner.origin?.external?.offset, 4096)
  assert.equal(statSync(join(folder, 'net.onnx.data')).size, 4096 + 1200)

  // In place: the data file that is read is the one that is replaced.
  again.graph.find('w')!.setConstant(Tensor.float32([300], new Float32Array(300).fill(4)))
  await writeModel(again, path, { externalData: true })
  const third = await readModel(path)
  assert.deepEqual([...third.graph.find('w')!.constant!.toFloat32().slice(0, 2)], [4, 4])
  assert.equal(readdirSync(folder).length, 2)
})

test('a real model with external data is written back field by field', async (t) => {
  const from = externalZoo()
  if (!from) return t.skip('zoo not there')
  const folder = scratch(t)
  cpSync(from, folder, { recursive: true })
  const path = join(folder, readdirSync(folder).find((f) => f.endsWith('.onnx'))!)
  const model = await readModel(path)
  await writeModel(model, join(folder, 'again.onnx'))
  assert.equal(firstDifference(readFileSync(path), readFileSync(join(folder, 'again.onnx'))), undefined)
  await writeModel(model, join(folder, 'moved.onnx'), { externalData: true })
  const moved = await readModel(join(folder, 'moved.onnx'))
  for (const v of model.graph.initializers())
    assert.ok(v.constant!.equals(moved.graph.find(v.name)!.constant!), `tensor ${v.name}`)
})

test('more than 2 GB: refused in one piece, put next to the file without being asked', () => {
  const model = sample()
  const untouched = { length: 2 ** 31, read: () => assert.fail('the tensor must not be read') }
  const big = new Tensor('float32', [2 ** 29], untouched)
  model.graph.find('w')!.setConstant(big)
  assert.throws(
    () => encodeModel(model),
    (e: unknown) => e instanceof MncError && e.code === 'too-large' && /write to a file/.test(e.next ?? ''),
  )
  const { place, data } = placeTensors(model, '/nowhere/big.onnx', false)
  assert.deepEqual(place(big), [
    { key: 'location', value: 'big.onnx.data' },
    { key: 'offset', value: '0' },
    { key: 'length', value: String(2 ** 31) },
  ])
  assert.deepEqual(
    data.map((part) => part.length),
    [2 ** 31, 1200],
  )
})
