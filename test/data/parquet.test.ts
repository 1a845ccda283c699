/** Parquet files: every number that was written is read, in any order, or the file is refused. */
import assert from 'node:assert/strict'
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, test } from 'node:test'
import { parseModel } from '../../src/codec/text-parse.ts'
import { ArraySet, openDataset, sampleBatches } from '../../src/data/index.ts'
import { type Unpacked, unpackParquet } from '../../src/data/readers/parquet-unpack.ts'
import { MncError } from '../../src/index.ts'
import { png } from '../support/data-files.ts'
import { inMemory } from '../support/in-memory.ts'
import { type ParquetColumn, type ParquetPictures, parquetFile } from '../support/parquet-file.ts'
import { peakOf } from '../support/peak-memory.ts'

const scratch = mkdtempSync(join(tmpdir(), 'mnc-parquet-'))
after(() => rmSync(scratch, { recursive: true }))

const COUNT = 23
const of = <T>(make: (i: number) => T): T[] => Array.from({ length: COUNT }, (_, i) => make(i))
const columns = (): ParquetColumn[] => [
  { name: 'f', type: 'FLOAT', rows: of((i) => i / 4 - 2) },
  { name: 'd', type: 'DOUBLE', rows: of((i) => i * 1e-3) },
  { name: 'list', type: 'FLOAT', rows: of((i) => [i, i + 0.5, -i]) },
  { name: 'ids', type: 'INT64', rows: of((i) => [i % 5, 4 - (i % 5)]) },
  { name: 'wide', type: 'INT64', rows: of((i) => BigInt(i) << 40n) },
  { name: 'byte', type: 'INT32', converted: 11, rows: of((i) => 255 - i) },
  { name: 'flag', type: 'BOOLEAN', rows: of((i) => i % 3 === 0) },
  { name: 'text', type: 'BYTE_ARRAY', converted: 0, rows: of((i) => `t${i}`) },
  { name: 'date', type: 'INT32', converted: 6, rows: of((i) => i) },
  { name: 'label', type: 'INT32', rows: of((i) => i % 4) },
]

let files = 0
function write(bytes: Uint8Array, name = `${files++}.parquet`): string {
  const path = join(scratch, name)
  mkdirSync(join(path, '..'), { recursive: true })
  writeFileSync(path, bytes)
  return path
}
async function open(path: string, split: 'train' | 'test' = 'train'): Promise<ArraySet> {
  const set = await openDataset(`parquet:${path}`, split)
  assert.ok(set instanceof ArraySet)
  return set
}

test('numbers, lists and booleans of all row groups, in any order, stored or gzipped', async () => {
  const order = [22, 0, 7, 8, 9, 3]
  for (const gzip of [false, true])
    for (const group of gzip ? [7] : [1, 7, 100]) {
      const set = await open(write(parquetFile(columns(), group, gzip)))
      assert.deepEqual([set.size, set.classes], [COUNT, 4])
      assert.deepEqual(
        [...set.labels],
        of((i) => i % 4),
      )
      assert.match(set.notes.join(), /columns that are not read: text, date/)
      const want: Record<string, [string, unknown[]]> = {
        f: ['float32', order.map((i) => i / 4 - 2)],
        d: ['float64', order.map((i) => i * 1e-3)],
        list: ['float32', order.flatMap((i) => [i, i + 0.5, -i])],
        ids: ['int64', order.flatMap((i) => [i % 5, 4 - (i % 5)])],
        wide: ['int64', order.map((i) => i * 2 ** 40)],
        byte: ['uint8', order.map((i) => 255 - i)],
        flag: ['bool', order.map((i) => (i % 3 === 0 ? 1 : 0))],
        label: ['int32', order.map((i) => i % 4)],
      }
      for (const column of set.columns) {
        const t = set.read(column, order)
        assert.deepEqual([t.type, Array.from(t.toNumbers(), Number)], want[column.name], column.name)
      }
      assert.equal(set.columns.length, Object.keys(want).length)
    }
})

test('columns feed inputs, a number those of [N, 1]; splits are files of a folder', async () => {
  const model = parseModel(`onnx {ir_version=10}
opset ai.onnx=21
graph "g"
  input %f : float32[N,1]
  input %list : float32[N,3]
  %y : float32[N,3] = Add(%f, %list)
  output %y
end
`)
  const at = join(scratch, 'splits')
  write(parquetFile(columns(), 10), 'splits/train.parquet')
  const few = columns().map((c) => ({ ...c, rows: c.rows.slice(0, 2) }))
  write(parquetFile(few, 10), 'splits/test.parquet')
  assert.deepEqual(
    [(await open(at)).size, (await open(at, 'test')).size, (await open(at, 'test')).classes],
    [COUNT, 2, 4],
  )
  for await (const { feeds, labels } of sampleBatches(model, await open(at, 'test'), undefined, 8)) {
    assert.deepEqual(
      [feeds.f!.dims, Array.from(feeds.f!.toNumbers())],
      [
        [2, 1],
        [-2, -1.75],
      ],
    )
    assert.deepEqual([...labels!], [0, 1])
  }
  rmSync(join(at, 'test.parquet'))
  await assert.rejects(open(at, 'test'), /has no files of the test split/)
  await assert.rejects(open(join(scratch, 'none')), /there is no file or folder/)
})

test('files of a folder are one set, in their order; they have the same columns and shapes', async () => {
  const at = join(scratch, 'several')
  const some = (from: number, to: number) => columns().map((c) => ({ ...c, rows: c.rows.slice(from, to) }))
  write(parquetFile(some(0, 9), 4), 'several/train-00000-of-00002.parquet')
  write(parquetFile(some(9, COUNT), 40), 'several/train-00001-of-00002.parquet')
  write(parquetFile(some(0, 3), 40), 'several/validation-00000-of-00001.parquet')
  const set = await open(at)
  const whole = await open(write(parquetFile(columns(), 7)))
  assert.equal(set.contentHash(), whole.contentHash())
  assert.deepEqual(
    [8, 9].map((row) => set.columns[0]!.fileOf!(row)),
    [0, 1].map((k) => join(at, `train-0000${k}-of-00002.parquet`)),
  )
  assert.equal((await open(at, 'test')).size, 3)
  write(parquetFile(some(0, 3).slice(1), 40), 'several/train-00002.parquet')
  await assert.rejects(open(at), /train-00002\.parquet: it has the columns d \(float64\).* and .*train-00000/)
  const longer = some(0, 3).map((c) => (c.name === 'list' ? { ...c, rows: [1, 2, 3].map(() => [1, 2]) } : c))
  write(parquetFile(longer, 40), 'several/train-00002.parquet')
  await assert.rejects(open(at), /train-00002\.parquet: 'list' has the shape \[2\], and \[3\] in .*train-00000/)
})

const noSharp = (await import('sharp').catch(() => null)) ? false : 'the optional decoder sharp is not installed'
const picture = (value: number): Uint8Array => png(2, 2, 3, new Uint8Array(12).fill(value))
const named = (names: readonly string[]): Record<string, string> => ({
  huggingface: JSON.stringify({
    info: { features: { image: { _type: 'Image' }, label: { names, _type: 'ClassLabel' } } },
  }),
})

test('pictures as Hugging Face stores them, with the names of their classes', { skip: noSharp }, async () => {
  const of = (values: readonly number[], labels: readonly number[]) => [
    {
      name: 'image',
      type: 'PICTURE',
      rows: values.map((v) => ({ bytes: picture(v), path: v % 2 === 0 ? `${v}.png` : null })),
    } as const,
    { name: 'label', type: 'INT64', rows: labels } as const,
    { name: 'weight', type: 'FLOAT', rows: labels } as const,
  ]
  const names = named(['cat', 'dog', 'newt'])
  write(parquetFile(of([10, 21, 32], [1, 0, 1]), 2, false, names), 'hf/train-00000-of-00002.parquet')
  write(parquetFile(of([43], [2]), 2, true, names), 'hf/train-00001-of-00002.parquet')
  write(parquetFile(of([200, 201], [0, 2]), 9, false, names), 'hf/test-00000-of-00001.parquet')
  const at = `parquet:${join(scratch, 'hf')}`
  const [train, test] = [await openDataset(at, 'train'), await openDataset(at, 'test')]
  assert.ok(!(train instanceof ArraySet) && !(test instanceof ArraySet))
  const values = async (set: typeof train): Promise<unknown> => {
    const own = await inMemory(set)
    return Array.from(own.labels, (label, i) => [own.image(i)[0], label])
  }
  assert.deepEqual([train.classes, train.classNames], [3, ['cat', 'dog', 'newt']])
  assert.deepEqual(await values(train), [
    [10, 1],
    [21, 0],
    [32, 1],
    [43, 2],
  ])
  assert.deepEqual(await values(test), [
    [200, 0],
    [201, 2],
  ])
  assert.match(train.notes.join(), /columns that are not read beside the pictures of 'image': weight/)
  assert.deepEqual(await test.statistics(), await train.statistics())
  assert.notEqual(train.contentHash(), test.contentHash())
  assert.equal(train.contentHash(), (await openDataset(at, 'train')).contentHash())
  // the numbers beside them, where they are asked for
  assert.ok((await openDataset(at, 'train', { map: { x: 'weight' } })) instanceof ArraySet)
  const other = await openDataset(at, 'train', { map: { labels: 'weight' } })
  assert.ok(!(other instanceof ArraySet) && other.isLabelled)
})

test('pictures that are missing or none are named by file and row', { skip: noSharp }, async () => {
  const of = (...rows: ParquetPictures['rows']): string =>
    write(parquetFile([{ name: 'image', type: 'PICTURE', rows }], 4))
  const good = { bytes: picture(1), path: null }
  for (const [rows, reason] of [
    [[good, null], /\.parquet: 'image' has no picture in row 1/],
    [[good, { bytes: null, path: 'x.png' }], /'image' has no picture in row 1, only a path \(x\.png\)/],
    [[good, { bytes: Buffer.from('no'), path: 'x.png' }], /\.parquet: 'x\.png' is not a readable image/],
    [[good, { bytes: Buffer.from('no'), path: null }], /\.parquet: 'row 1' is not a readable image/],
  ] as const)
    await assert.rejects(openDataset(`parquet:${of(...rows)}`, 'train'), reason)
  const plain = await openDataset(`parquet:${of(good, good)}`, 'train')
  assert.deepEqual([plain.isLabelled, plain.size], [false, 2])
  const column = { name: 'label', type: 'INT64', rows: [0, 5] } as const
  const pictures = { name: 'image', type: 'PICTURE', rows: [good, good] } as const
  const file = write(parquetFile([pictures, column], 4, false, named(['cat', 'dog'])))
  await assert.rejects(openDataset(`parquet:${file}`, 'train'), /'label' holds class 5, but only 2 have names/)
  const unlabelled = write(parquetFile([pictures, { ...column, rows: [-1, -1] }], 4))
  await assert.rejects(openDataset(`parquet:${unlabelled}`, 'train'), /label\[0\] is -1; a label is a whole number/)
})

test('lists of different lengths, nothing to read, no rows: one line that names the file', async () => {
  const [f] = columns() as [ParquetColumn]
  const ragged = { name: 'r', type: 'FLOAT', rows: of((i) => (i === 9 ? [1] : [1, 2])) } as const
  await assert.rejects(open(write(parquetFile([ragged], 4))), /'r' has 1 numbers in row 9, and 2 in the first row/)
  const text = { name: 't', type: 'BYTE_ARRAY', converted: 0, rows: of(String) } as const
  await assert.rejects(open(write(parquetFile([text], 4))), /none of its columns holds numbers or pictures/)
  await assert.rejects(open(write(parquetFile([{ ...f, rows: [] }], 4))), /it has no rows/)
  await assert.rejects(open(write(Buffer.from('PAR1'))), /cannot be read as Parquet/)
  await assert.rejects(open(write(Buffer.alloc(0))), /it is empty/)
})

test('damage anywhere: one line that names the file', async () => {
  const [f, , list] = columns() as [ParquetColumn, ParquetColumn, ParquetColumn]
  const whole = parquetFile([f, list], 12)
  const path = write(whole, 'damaged.parquet')
  const fates = { read: 0, refused: 0 }
  const attempt = async (bytes: Buffer): Promise<void> => {
    writeFileSync(path, bytes)
    let last: Unpacked | undefined
    // in this process, where it is quick
    await unpackParquet(path, (said) => {
      last = said
    })
    // a flipped bit of a number is a number
    fates[last!.say === 'end' ? 'read' : 'refused']++
    if (last!.say !== 'end')
      assert.ok(last!.say === 'error' && /damaged\.parquet/.test(last!.message), JSON.stringify(last))
  }
  for (const length of [12, 100, whole.length - 9, whole.length - 1]) await attempt(whole.subarray(0, length))
  // the footer, which says how much there is of everything, more densely
  const footer = whole.length - 8 - whole.readUInt32LE(whole.length - 8)
  const positions = [40, 200, 400].concat(Array.from({ length: 120 }, (_, i) => footer + i * 3))
  for (const [i, at] of positions.entries()) {
    const bad = Buffer.from(whole)
    bad[at]! ^= [255, 1, 8, 64][i % 4]!
    await attempt(bad)
  }
  assert.ok(fates.refused > 40, JSON.stringify(fates))
  writeFileSync(path, whole.subarray(0, 100))
  await assert.rejects(
    open(path),
    (e: unknown) => e instanceof MncError && e.blame === 'user' && /damaged\.parquet/.test(e.message),
  )
})

test('a process that the reader ends is an error of the file; so is one that is given too little memory', async () => {
  const [f] = columns() as [ParquetColumn]
  const path = write(parquetFile([f], 12), 'ended.parquet')
  // what the engine does with an array of an impossible size
  process.env.NODE_OPTIONS = '--import=data:text/javascript,process.abort()'
  try {
    await assert.rejects(open(path), /ended\.parquet is damaged: it says of itself what no file can hold/)
  } finally {
    delete process.env.NODE_OPTIONS
  }
  const large = { name: 'f', type: 'DOUBLE', rows: Array.from({ length: 60_000 }, () => Array(100).fill(1)) } as const
  const whole = openDataset(`parquet:${write(parquetFile([large], 60_000))}`, 'train', { memory: 1 })
  await assert.rejects(whole, /a row group takes more than 1 MB of memory.*--data-memory/s)
})

test('rows are unpacked in memory that does not grow with them', { timeout: 120_000 }, () => {
  const script = `
    import { openDataset } from './src/data/index.ts'
    // what a row group takes, and no more
    const set = await openDataset('parquet:' + process.argv[1], 'train', { memory: 24 })
    let sum = 0
    for (let i = 0; i < set.size; i += 1000) sum += set.read(set.columns[0], [i, i + 1]).toNumbers()[1]
    console.log(set.size, sum)
  `
  const file = (count: number, group: number): string => {
    const column = { name: 'f', type: 'FLOAT', rows: Array.from({ length: count }, (_, i) => i % 1000) } as const
    return write(parquetFile([column], group), 'large.parquet')
  }
  const measure = (count: number): number => {
    const { output, peak } = peakOf(script, file(count, 5000))
    assert.equal(output, `${count} ${count / 1000}`)
    return peak
  }
  const [few, many] = [measure(50_000), measure(500_000)]
  assert.ok(many < few + 32, `${few.toFixed(0)} MB of memory for 50,000 rows, ${many.toFixed(0)} MB for 500,000`)
})
