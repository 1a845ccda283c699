/** A class that the test split alone has is said with the file that holds it, of every source whose labels are numbers, whichever split is read. */
import assert from 'node:assert/strict'
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import test, { after } from 'node:test'
import { openDataset } from '../../src/data/open.ts'
import { testOnlyNote } from '../../src/data/test-only-classes.ts'
import { npy, npz, png, tar, wav } from '../support/data-files.ts'
import { parquetFile } from '../support/parquet-file.ts'

const noSharp = (await import('sharp').catch(() => null)) ? false : 'the optional decoder sharp is not installed'
const scratch = mkdtempSync(join(tmpdir(), 'mnc-test-only-'))
after(() => rmSync(scratch, { recursive: true }))

type Files = Readonly<Record<string, Uint8Array | string>>

function write(files: Files): string {
  const folder = mkdtempSync(join(scratch, 'set-'))
  for (const [name, content] of Object.entries(files)) {
    mkdirSync(dirname(join(folder, name)), { recursive: true })
    writeFileSync(join(folder, name), content)
  }
  return folder
}

const TRAIN = [0, 1, 0, 1]
/** In two parts where a split may have several files: the second has what training never sees. */
const [FIRST, SECOND] = [
  [1, 0],
  [0, 3, 2],
]
const TEST = [...FIRST, ...SECOND]

const rowsOf = (labels: readonly number[]): Buffer =>
  npy(
    Float32Array.from({ length: 2 * labels.length }, (_, i) => i),
    [labels.length, 2],
  )
const whole = (labels: readonly number[]): Buffer => npy(Int32Array.from(labels), [labels.length])
const table = (labels: readonly number[]) =>
  parquetFile(
    [
      { name: 'x', type: 'FLOAT', rows: labels.map((l) => [l, 1]) },
      { name: 'label', type: 'INT64', rows: labels },
    ],
    2,
  )
const shard = (labels: readonly number[], start = 0) =>
  tar(
    labels.flatMap((l, i) => [[`${start + i}.x.npy`, rowsOf([l])] as const, [`${start + i}.cls`, String(l)] as const]),
  )
const pictures = (labels: readonly number[], start = 0) =>
  tar(
    labels.flatMap((l, i) => [
      [`${start + i}.png`, png(2, 2, 1, [l, 1, 2, 3])] as const,
      [`${start + i}.cls`, String(l)] as const,
    ]),
  )
const sounds = (split: string, labels: readonly number[]): Files => ({
  [`${split}/labels.csv`]: labels.map((l, i) => `${i}.wav,${l}`).join('\n'),
  ...Object.fromEntries(labels.map((l, i) => [`${split}/${i}.wav`, wav([[l, 1, 2, 3]])])),
})
const idx = (dims: readonly number[], bytes: Uint8Array): Buffer => {
  const head = Buffer.alloc(4 + 4 * dims.length)
  for (const [i, v] of [0x0800 + dims.length, ...dims].entries()) head.writeUInt32BE(v, 4 * i)
  return Buffer.concat([head, bytes])
}
const idxOf = (stem: string, labels: readonly number[]): Files => ({
  [`${stem}-images-idx3-ubyte`]: idx([labels.length, 2, 2], new Uint8Array(4 * labels.length)),
  [`${stem}-labels-idx1-ubyte`]: idx([labels.length], Uint8Array.from(labels)),
})
const cifar = (labels: readonly number[]): Buffer =>
  Buffer.concat(labels.map((l) => Buffer.from(Uint8Array.from({ length: 3073 }, (_, i) => (i === 0 ? l : i % 7)))))

interface Source {
  readonly files: Files
  /** In the folder of the files; what `--data` gives. */
  readonly place?: string
  readonly file: string
  readonly skip?: string | false
}

const sources: Readonly<Record<string, Source>> = {
  npz: {
    files: {
      'a.npz': npz({ train_x: rowsOf(TRAIN), train_y: whole(TRAIN), test_x: rowsOf(TEST), test_y: whole(TEST) }),
    },
    ...{ place: 'a.npz', file: 'a.npz' },
  },
  npy: {
    files: {
      ...{ 'train/x.npy': rowsOf(TRAIN), 'train/labels.npy': whole(TRAIN) },
      ...{ 'val/x.npy': rowsOf(TEST), 'val/labels.npy': whole(TEST) },
    },
    file: 'val/labels.npy',
  },
  parquet: {
    files: { 'train.parquet': table(TRAIN), 'test-0.parquet': table(FIRST), 'test-1.parquet': table(SECOND) },
    file: 'test-1.parquet',
  },
  tar: {
    files: { 'train.tar': shard(TRAIN), 'val-0.tar': shard(FIRST), 'val-1.tar': shard(SECOND, 9) },
    file: 'val-1.tar',
  },
  'tar of pictures': {
    files: { 'train.tar': pictures(TRAIN), 'val-0.tar': pictures(FIRST), 'val-1.tar': pictures(SECOND, 9) },
    ...{ file: 'val-1.tar', skip: noSharp },
  },
  wav: { files: { ...sounds('train', TRAIN), ...sounds('test', TEST) }, file: 'test/labels.csv' },
  mnist: { files: { ...idxOf('train', TRAIN), ...idxOf('t10k', TEST) }, file: 't10k-labels-idx1-ubyte' },
  cifar10: {
    files: {
      ...Object.fromEntries(TRAIN.concat(0).map((l, i) => [`data_batch_${i + 1}.bin`, cifar([l])])),
      'test_batch.bin': cifar(TEST),
    },
    file: 'test_batch.bin',
  },
}

for (const [name, { files, place = '', file, skip = false }] of Object.entries(sources))
  test(`of ${name}`, { skip }, async () => {
    const folder = write(files)
    const note = `${join(folder, file)}: only the test split has samples of classes 2, 3, which training never sees`
    for (const split of ['train', 'test'] as const) {
      const set = await openDataset(`${name.split(' ')[0]}:${join(folder, place)}`, split)
      assert.deepEqual(
        set.notes.filter((n) => n.includes('only the test split')),
        [note],
      )
    }
  })

test('classes with names: an error that names both files of labels', async () => {
  const named = (split: string, names: readonly string[]): Files => ({
    [`${split}/labels.json`]: JSON.stringify(Object.fromEntries(names.map((n, i) => [`${i}.wav`, n]))),
    ...Object.fromEntries(names.map((_, i) => [`${split}/${i}.wav`, wav([[1, 2, 3, 4]])])),
  })
  const folder = write({ ...named('train', ['ant', 'bee']), ...named('test', ['ant', 'cat']) })
  for (const split of ['train', 'test'] as const)
    await assert.rejects(openDataset(`wav:${folder}`, split), {
      message: `wav: ${folder}/test/labels.json has classes that ${folder}/train/labels.json lacks: 'cat'`,
    })
})

test('nothing is said where training has all classes, more of them, or there is one split; many are cut short', () => {
  const of = (labels: readonly number[]) => ({ labels, fileOf: (row: number) => `file ${row}` })
  assert.deepEqual(testOnlyNote('train', of([0, 1, 2]), of([1, 2])), [])
  assert.deepEqual(testOnlyNote('test', of([1]), of([0, 1, 2])), [])
  assert.deepEqual(testOnlyNote('train', of([0]), null), [])
  const many = Array.from({ length: 12 }, (_, i) => i)
  assert.deepEqual(testOnlyNote('train', of([0]), of(many)), [
    'file 1: only the test split has samples of classes 1, 2, 3, 4, 5, 6, 7, 8, ..., which training never sees',
  ])
  assert.deepEqual(testOnlyNote('train', of([0]), of([0, 5])), [
    'file 1: only the test split has samples of class 5, which training never sees',
  ])
})
