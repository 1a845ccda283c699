import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import { basename, dirname } from 'node:path'
import test from 'node:test'
import { decodeModel, encodeModel } from '../../src/codec/codec.ts'
import { decodeProto, encodeProto } from '../../src/codec/proto.ts'
import { cloneModel } from '../../src/graph/clone.ts'
import { Tensor } from '../../src/graph/tensor.ts'
import { verifyModel } from '../../src/graph/verify.ts'
import { nodeTests, zoo } from '../graph/files.ts'
import { firstDifference, readFields, type Written, write } from '../graph/wire.ts'

/** Files whose nodes are not topologically sorted: they are sorted when read. */
const unsorted = new Set(['ort_bert_toy_optimized.onnx'])

function roundTrip(file: string): void {
  const before = readFileSync(file)
  const model = decodeModel(before, { folder: dirname(file), file })
  verifyModel(model)
  const after = Buffer.from(encodeModel(model))
  assert.equal(firstDifference(before, after, 'Model', unsorted.has(basename(file))), undefined, file)
  const copy = cloneModel(model)
  assert.ok(after.equals(encodeModel(copy)), `a clone of ${file} is written otherwise`)
}

test('the comparison of the wire format sees what differs', () => {
  const a = write([
    [1, 8],
    [
      7,
      [
        [2, 'g'],
        [11, [[1, 'x']]],
        [11, [[1, 'y']]],
      ],
    ],
  ])
  const swapped = write([
    [1, 8],
    [
      7,
      [
        [2, 'g'],
        [11, [[1, 'y']]],
        [11, [[1, 'x']]],
      ],
    ],
  ])
  const reordered = write([
    [
      7,
      [
        [11, [[1, 'x']]],
        [2, 'g'],
        [11, [[1, 'y']]],
      ],
    ],
    [1, 8],
  ])
  assert.equal(firstDifference(a, reordered), undefined)
  assert.equal(firstDifference(a, swapped), 'Model.7[0] > Graph.11[0] > Info.1[0]: other bytes')
  assert.equal(firstDifference(a, write([[1, 8]])), 'Model.7: 1 entries and 0')
})

for (const [what, files] of [
  ['zoo model', zoo()],
  ['ONNX node test', nodeTests()],
] as const)
  test(`every ${what} is written back field by field as it was read`, (t) => {
    if (files.length === 0) return t.skip('files not there')
    for (const file of files) roundTrip(file)
    t.diagnostic(`${files.length} files`)
  })

const utf8 = (s: string) => new TextEncoder().encode(s)
/** A field that ONNX does not have, in any message. */
const unknown = [777, 'from the future'] as const
const prop = (key: string, value: string): Written => [[1, key], [2, value], unknown]
const floats = (...values: number[]) => new Uint8Array(Float32Array.from(values).buffer)
const tensorType: Written = [
  [
    1,
    [
      [1, 1],
      [
        2,
        [
          [
            1,
            [
              [1, 2],
              [3, 'DATA_BATCH'],
            ],
          ],
          [1, [[2, 'N'], unknown]],
          [1, []],
          unknown,
        ],
      ],
      unknown,
    ],
  ],
  [6, 'IMAGE'],
]
const tensor = (name: string): Written => [
  [1, 2],
  [2, 1],
  [4, floats(1.5, Number.NaN)],
  [8, name],
  [12, 'doc'],
  [16, prop('t', 'u')],
  unknown,
]
const sparse = (name: string): Written => [
  [
    1,
    [
      [1, 1],
      [2, 1],
      [9, floats(3)],
      [8, name],
    ],
  ],
  [
    2,
    [
      [1, 1],
      [2, 7],
      [7, new Uint8Array([4])],
    ],
  ],
  [3, 9],
  unknown,
]
const body: Written = [
  [
    1,
    [
      [1, 'y'],
      [2, 'inner'],
      [4, 'Neg'],
    ],
  ],
  [2, 'body'],
  [12, [[1, 'inner']]],
]
const attribute = (name: string, type: number, ...value: Written): Written => [[1, name], [20, type], ...value]

/** Every message of the schema, unknown fields everywhere, and what the IR does not model. */
const everything: Written = [
  [1, 10],
  [2, 'maker'],
  [3, '1.0'],
  [4, 'a.domain'],
  [5, 7],
  [6, new Uint8Array([0xff, 0xfe])], // a doc string that is not UTF-8
  [8, [[1, 'ai.onnx'], [2, 21], unknown]],
  [
    8,
    [
      [1, 'own'],
      [2, 1],
    ],
  ],
  [14, prop('k', 'v')],
  [14, prop('k', 'again')],
  [20, [[1, body], [2, body], [3, prop('a', 'b')], [4, prop('c', 'd')], unknown]],
  [
    25,
    [
      [1, 'Twice'],
      [4, 'a'],
      [5, 'b'],
      [6, 'alpha'],
      [11, attribute('beta', 2, [3, 1])],
      [
        7,
        [
          [1, 'a'],
          [1, 'a'],
          [2, 'b'],
          [4, 'Add'],
          [
            5,
            [
              [1, 'alpha'],
              [21, 'alpha'],
              [20, 1],
            ],
          ],
        ],
      ],
      [8, 'doc'],
      [9, [[2, 21]]],
      [10, 'own'],
      [
        12,
        [
          [1, 'b'],
          [2, tensorType],
        ],
      ],
      [13, 'f32'],
      [14, prop('m', 'n')],
      unknown,
    ],
  ],
  [26, [[1, 'mesh'], [2, 4], [3, 'gpu0'], unknown]],
  [
    7,
    [
      [
        1,
        [
          [1, 'x'],
          [1, ''],
          [2, 'y'],
          [2, ''],
          [3, 'first'],
          [4, 'Foo'],
          [6, 'doc'],
          [7, 'own'],
          [8, 'f32'],
          [9, prop('r', 's')],
          [
            10,
            [
              [1, 'mesh'],
              [
                2,
                [
                  [1, 'x'],
                  [2, 3],
                  [
                    3,
                    [
                      [1, 1],
                      [2, 2],
                    ],
                  ],
                  [
                    4,
                    [
                      [1, 1],
                      [
                        2,
                        [
                          [1, 2],
                          [3, 4],
                        ],
                      ],
                    ],
                  ],
                ],
              ],
              [3, 2],
            ],
          ],
          unknown,
          [5, attribute('i', 2, [3, 5], [13, 'doc'], unknown)],
          [5, attribute('s', 3, [4, new Uint8Array([0xff])])],
          [5, attribute('t', 4, [5, tensor('inner name')])],
          [5, attribute('ts', 9, [10, tensor('a')], [10, tensor('b')])],
          [5, attribute('ss', 8, [9, 'p'], [9, ''])],
          [5, attribute('is', 7, [8, 1], [8, 2])],
          [5, attribute('empty', 6)],
          [5, attribute('tp', 13, [14, tensorType])],
          [5, attribute('tps', 14, [15, tensorType])],
          [5, attribute('st', 11, [22, sparse('q')])],
          [5, attribute('sts', 12, [23, sparse('q')])],
        ],
      ],
      [
        1,
        [
          [1, 'condition'],
          [2, 'z'],
          [4, 'If'],
          [5, attribute('then_branch', 5, [6, body])],
          [5, attribute('more', 10, [11, body], [11, body], [13, 'doc'])],
        ],
      ],
      [
        1,
        [
          [1, 'seq'],
          [2, 'seq2'],
          [4, 'Identity'],
          [7, ''],
        ],
      ],
      [2, 'main'],
      [5, tensor('w')],
      [
        5,
        [
          [1, 1],
          [2, 9],
          [5, new Uint8Array([1])],
          [8, 'condition'],
        ],
      ],
      [10, 'graph doc'],
      [11, [[1, 'x'], [2, tensorType], [3, 'doc'], [4, prop('in', 'put')], unknown]],
      [
        11,
        [
          [1, 'w'],
          [2, tensorType],
        ],
      ],
      [
        11,
        [
          [1, 'seq'],
          [2, [[4, [[1, tensorType]]]]],
        ],
      ],
      [12, [[1, 'z']]],
      [
        12,
        [
          [1, 'seq2'],
          [
            2,
            [
              [
                9,
                [
                  [
                    1,
                    [
                      [
                        5,
                        [
                          [1, 7],
                          [2, tensorType],
                        ],
                      ],
                    ],
                  ],
                ],
              ],
            ],
          ],
        ],
      ],
      [
        13,
        [
          [1, 'nobody'],
          [2, tensorType],
        ],
      ],
      [
        13,
        [
          [1, 'y'],
          [2, tensorType],
          [3, 'doc'],
        ],
      ],
      [
        13,
        [
          [1, 'w'],
          [2, tensorType],
        ],
      ],
      [14, [[1, 'w'], [2, prop('SCALE_TENSOR', 's')], unknown]],
      [15, sparse('loose')],
      [16, prop('g', 'h')],
      unknown,
    ],
  ],
  unknown,
]

test('a message with every field of the schema and unknown fields in all of them survives', () => {
  const before = write(everything)
  const model = decodeModel(before)
  verifyModel(model)
  for (const m of [model, cloneModel(model)]) {
    const after = Buffer.from(encodeModel(m))
    assert.equal(firstDifference(before, after), undefined)
    assert.deepEqual(decodeProto('ModelProto', after), decodeProto('ModelProto', before))
  }
})

test('a changed model keeps what the change does not touch', () => {
  const model = decodeModel(write(everything))
  const { graph } = model
  graph.find('w')!.setDefault(Tensor.float32([1], [9]))
  graph.find('y')!.setType({ elem: 'float16', dims: [2, 'M', null] })
  const foo = graph.find('y')!.producer!
  foo.setAttribute('i', 6n)
  foo.metadata.set('mnc.role', 'test')
  graph.find('condition')!.metadata.set('mnc.frozen', 'true')
  model.metadata.set('new', 'entry')
  const again = decodeModel(encodeModel(model))
  const p = decodeProto('ModelProto', encodeModel(model))
  assert.deepEqual(
    [...again.metadata],
    [
      ['k', 'again'],
      ['new', 'entry'],
    ],
  )
  const w = p.graph!.initializer![0]!
  assert.deepEqual(new Float32Array(again.graph.find('w')!.default!.bytes.slice().buffer), Float32Array.of(9))
  assert.deepEqual([w.float_data, w.doc_string && Buffer.from(w.doc_string).toString()], [undefined, 'doc'])
  assert.equal(w.$unknowns?.length, 1)
  assert.equal(again.graph.find('condition')!.metadata.get('mnc.frozen'), 'true')
  const y = p.graph!.value_info!.find((v) => v.name === 'y')!
  assert.equal(Buffer.from(y.doc_string!).toString(), 'doc')
  assert.equal(y.type!.denotation, 'IMAGE')
  assert.deepEqual(again.graph.find('y')!.type, { elem: 'float16', dims: [2, 'M', null] })
  const i = p.graph!.node![0]!.attribute![0]!
  assert.deepEqual([i.i, Buffer.from(i.doc_string!).toString(), i.$unknowns?.length], [6n, 'doc', 1])
  assert.deepEqual(again.graph.find('y')!.producer!.metadata.get('mnc.role'), 'test')
})

test('value_info is written only for values that had it', () => {
  const model = decodeModel(write(everything))
  const { graph } = model
  const y = graph.find('y')!
  const v = graph.after(y.producer!).op('Relu', [y], {}, { name: 'fresh', type: { elem: 'float32', dims: [1] } })
  graph.after(v.producer!).op('Relu', [v], {}, { name: 'told' })
  graph.find('told')!.metadata.set('why', 'carried by value_info')
  const names = decodeProto('ModelProto', encodeModel(model)).graph!.value_info!.map((x) => x.name)
  assert.deepEqual(names, ['nobody', 'y', 'w', 'told'])
})

test('typed tensor fields are unpacked to their bytes, packed or not', () => {
  const cases: [string, Written, number[]][] = [
    [
      'float16 in int32_data',
      [
        [1, 2],
        [2, 10],
        [5, new Uint8Array([0x80, 0x78, 0x00])],
      ],
      [0x00, 0x3c, 0, 0],
    ],
    [
      'negative int8',
      [
        [1, 1],
        [2, 3],
        [5, new Uint8Array([0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1])],
      ],
      [0xff],
    ],
    [
      'int64, not packed',
      [
        [1, 2],
        [2, 7],
        [7, 300],
        [7, 1],
      ],
      [44, 1, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0],
    ],
    [
      'uint32 in uint64_data',
      [
        [1, 1],
        [2, 12],
        [11, new Uint8Array([0xff, 0xff, 0xff, 0xff, 0x0f])],
      ],
      [255, 255, 255, 255],
    ],
    [
      'int4 in int32_data',
      [
        [1, 3],
        [2, 22],
        [5, new Uint8Array([0x21, 0x07])],
      ],
      [0x21, 0x07],
    ],
    [
      'two packed chunks',
      [
        [1, 2],
        [2, 1],
        [4, floats(1)],
        [4, floats(2)],
      ],
      [...floats(1, 2)],
    ],
    [
      'int64 minimum',
      [
        [1, 1],
        [2, 7],
        [7, new Uint8Array([128, 128, 128, 128, 128, 128, 128, 128, 128, 1])],
      ],
      [0, 0, 0, 0, 0, 0, 0, 128],
    ],
  ]
  for (const [what, fields, bytes] of cases) {
    const file = write([
      [1, 8],
      [7, [[5, [...fields, [8, 'w']]]]],
    ])
    const model = decodeModel(file)
    assert.deepEqual([...model.graph.find('w')!.constant!.bytes], bytes, what)
    assert.equal(firstDifference(file, Buffer.from(encodeModel(model))), undefined, what)
    // Without its origin the tensor goes into raw_data and means the same.
    const { type, dims, bytes: raw } = model.graph.find('w')!.constant!
    model.graph.find('w')!.setConstant(new Tensor(type, dims, raw))
    assert.deepEqual([...decodeModel(encodeModel(model)).graph.find('w')!.constant!.bytes], bytes, what)
  }
})

test('a message field that occurs twice is merged, groups and packed lists are read', () => {
  const group = new Uint8Array([0x1b, 0x08, 0x05, 0x1c]) // field 3, a varint in it, its end
  const file = Buffer.concat([
    graph([2, 'g'], [11, [[1, 'x']]]),
    graph([12, [[1, 'x']]]),
    write([[8, [[2, 9]]]]),
    new Uint8Array([0xf3, 0x30, ...group.subarray(1, 3), 0xf4, 0x30]), // field 782
  ])
  const model = decodeModel(file)
  assert.equal(model.graph.name, 'g')
  assert.equal(model.graph.outputs[0], model.graph.find('x'))
  const p = decodeProto('ModelProto', encodeModel(model))
  assert.deepEqual(
    p.$unknowns?.map((b) => [...b]),
    [[0xf3, 0x30, 0x08, 0x05, 0xf4, 0x30]],
  )
  const packed = decodeProto('TensorProto', write([[1, new Uint8Array([3, 0x80, 1, 4])]]))
  assert.deepEqual(packed.dims, [3n, 128n, 4n])
  const negative = encodeProto('AttributeProto', { i: -1n, type: -2 })
  assert.deepEqual(decodeProto('AttributeProto', negative), { i: -1n, type: -2 })
})

test('int attributes keep all 64 bits, nodes out of order are sorted', () => {
  const big = 2n ** 63n - 1n
  const node = (from: string, to: string): Written => [
    [1, from],
    [2, to],
    [4, 'Relu'],
  ]
  const model = decodeModel(
    write([
      [
        7,
        [
          [1, node('b', 'c')],
          [1, node('a', 'b')],
          [1, node('x', 'a')],
          [11, [[1, 'x']]],
          [12, [[1, 'c']]],
        ],
      ],
    ]),
  )
  verifyModel(model)
  assert.deepEqual(
    [...model.graph.nodes()].map((n) => n.output.name),
    ['a', 'b', 'c'],
  )
  for (const value of [big, -big - 1n, -1n, 0n]) {
    model.graph.lastNode!.setAttribute('big', value)
    assert.deepEqual(decodeModel(encodeModel(model)).graph.lastNode!.attributes.get('big'), { kind: 'int', value })
  }
})

test('the same model gives the same bytes', () => {
  const bytes = write(everything)
  assert.ok(Buffer.from(encodeModel(decodeModel(bytes))).equals(encodeModel(decodeModel(bytes))))
  assert.ok(readFields(Buffer.from(encodeProto('ModelProto', decodeProto('ModelProto', bytes)))).has(777))
})

const node = (...more: Written): Written => [[4, 'Relu'], ...more]
const graph = (...fields: Written): Buffer => write([[7, fields]])
const malformed: [what: string, bytes: Uint8Array, RegExp, node?: string][] = [
  ['an empty file', new Uint8Array(0), /empty/],
  ['text', utf8('this is not a model at all'), /not an ONNX model/],
  ['a picture', new Uint8Array([0x89, 0x50, 0x4e, 0x47, 13, 10, 26, 10, 0, 0]), /not an ONNX model/],
  ["PyTorch's", Buffer.from('PK\x03\x04\0\0\b\b\0\0', 'latin1'), /not an ONNX model but a ZIP archive, as PyTorch/],
  ["older PyTorch's", Buffer.from('\x80\x02}q\0.', 'latin1'), /not an ONNX model but a pickle/],
  ["Keras's", Buffer.from('\x89HDF\r\n\x1a\n', 'latin1'), /not an ONNX model but HDF5/],
  ["TensorFlow Lite's", Buffer.from('\x1c\0\0\0TFL3\x14\0', 'latin1'), /not an ONNX model but a TensorFlow Lite model/],
  ['a model cut short', write(everything).subarray(0, 300), /not an ONNX model, or it is truncated/],
  ['a file without graph', write([[1, 8]]), /contains no graph/],
  ['a name that is not UTF-8', graph([2, new Uint8Array([0xff])]), /not an ONNX model/],
  ['an unknown input', graph([1, node([1, 'nothing'], [2, 'y'], [3, 'relu'])]), /reads 'nothing'/, 'relu'],
  ['an unknown output', graph([12, [[1, 'nothing']]]), /'nothing' of graph '' is not produced by any node/],
  ['a node without operator', graph([1, [[2, 'y']]]), /no operator type/, 'y'],
  ['a cycle', graph([1, node([1, 'b'], [2, 'a'], [3, 'n'])], [1, node([1, 'a'], [2, 'b'])]), /cyclic/, 'n'],
  [
    'a value made twice',
    graph([1, node([2, 'y'])], [1, node([2, 'y'], [3, 'n'])]),
    /produces 'y', which already exists/,
    'n',
  ],
  ['two inputs of one name', graph([11, [[1, 'x']]], [11, [[1, 'x']]]), /two values .* 'x'/],
  ['two initializers of one name', graph([5, tensor('w')], [5, tensor('w')]), /two initializers .* 'w'/],
  [
    'two attributes of one name',
    graph([1, node([3, 'n'], [5, attribute('a', 2)], [5, attribute('a', 2)])]),
    /two attributes named 'a'/,
    'n',
  ],
  ['an attribute of unknown type', graph([1, node([3, 'n'], [5, attribute('a', 99)])]), /type 99/, 'n'],
  ['an attribute without value', graph([1, node([3, 'n'], [5, attribute('a', 4)])]), /attribute 'a' has no value/, 'n'],
  [
    'too few numbers',
    graph([
      5,
      [
        [1, 3],
        [2, 1],
        [4, floats(1, 2)],
        [8, 'w'],
      ],
    ]),
    /'w' float32\[3\] needs 3 numbers but has 2/,
  ],
  [
    'too many bytes',
    graph([
      5,
      [
        [1, 1],
        [2, 1],
        [9, floats(1, 2)],
        [8, 'w'],
      ],
    ]),
    /needs 4 bytes but has 8/,
  ],
  [
    'a tensor without data',
    graph([
      5,
      [
        [1, 1],
        [2, 1],
        [8, 'w'],
      ],
    ]),
    /needs 4 bytes but has 0/,
  ],
  [
    'an unknown element type',
    graph([
      5,
      [
        [1, 1],
        [2, 88],
        [8, 'w'],
      ],
    ]),
    /element type 88/,
  ],
  [
    'dims beyond counting',
    graph([
      5,
      [
        [1, 2 ** 40],
        [1, 2 ** 40],
        [2, 1],
        [8, 'w'],
      ],
    ]),
    /dims/,
  ],
  [
    'external data of bytes from nowhere',
    graph([
      5,
      [
        [1, 1],
        [2, 1],
        [8, 'w'],
        [14, 1],
        [13, prop('location', 'f')],
      ],
    ]),
    /not read from a file/,
  ],
]

for (const [what, bytes, message, where] of malformed)
  test(`${what} is one clear model error`, () => {
    assert.throws(
      () => decodeModel(bytes, { file: 'some.onnx' }),
      (e: unknown) => {
        const { name, blame, file, node: at, message: text } = e as Record<string, string>
        assert.deepEqual([name, blame, file, at], ['MncError', 'model', 'some.onnx', where])
        assert.match(text!, message)
        return true
      },
    )
  })

test('graphs nested too deeply are refused, long chains are not', () => {
  let deep: Written = [[2, 'innermost']]
  for (let i = 0; i < 200; i++) deep = [[1, node([5, attribute('g', 5, [6, deep])])]]
  assert.throws(() => decodeModel(write([[7, deep]])), /nested too deeply/)
  const chain: Written = Array.from({ length: 20_000 }, (_, i): Written[number] => [
    1,
    node([1, `v${i + 1}`], [2, `v${i}`]),
  ])
  const model = decodeModel(graph(...chain, [11, [[1, 'v20000']]], [12, [[1, 'v0']]]))
  assert.equal(model.graph.nodeCount, 20_000)
  verifyModel(model)
})
