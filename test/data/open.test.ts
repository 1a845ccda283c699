import assert from 'node:assert/strict'
import { execFileSync } from 'node:child_process'
import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, truncateSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { after, test } from 'node:test'
import { gunzipSync } from 'node:zlib'
import { computeStatistics } from '../../src/data/dataset.ts'
import { openPictures, parseDataReference } from '../../src/data/index.ts'
import { inMemory } from '../support/in-memory.ts'

const scratch = mkdtempSync(join(tmpdir(), 'mnc-data-'))
after(() => rmSync(scratch, { recursive: true }))
const folder = (name: string) => {
  const path = join(scratch, name)
  mkdirSync(path, { recursive: true })
  return path
}
const python = (code: string, ...args: string[]) => execFileSync('/usr/bin/python3', ['-c', code, ...args])
const has = (module: string) => {
  try {
    execFileSync('/usr/bin/python3', ['-c', `import ${module}`], { stdio: 'ignore' })
    return true
  } catch {
    return false
  }
}

test('references: kinds, splits and places', () => {
  assert.deepEqual(parseDataReference('cifar10:a/b#test'), { kind: 'cifar10', place: 'a/b', split: 'test' })
  assert.deepEqual(parseDataReference('npz:C:\\x.npz'), { kind: 'npz', place: 'C:\\x.npz', split: null })
  assert.deepEqual(parseDataReference('embedded:'), { kind: 'embedded', place: '', split: null })
  assert.throws(() => parseDataReference('cifar11:x'), /unknown kind 'cifar11', did you mean 'cifar10/)
  assert.throws(() => parseDataReference('mnist'), /does not say where the data are/)
  assert.throws(() => parseDataReference('embedded#val'), /'train' or 'test', not 'val'/)
})

test('a path without its kind: what it looks like is said', () => {
  const place = folder('kinds')
  const put = (name: string): string => {
    mkdirSync(dirname(join(place, name)), { recursive: true })
    writeFileSync(join(place, name), '')
    return join(place, name.split('/')[0]!)
  }
  for (const [file, told] of [
    ['photos/train/cat/1.JPG', /kind of data is missing \(the folder looks like folder:.*photos\)/],
    ['sound/yes/1.wav', /wav:.*sound\)/],
    ['arrays/train/x.npy', /npy:.*arrays\)/],
    ['cifar/data_batch_1.bin', /cifar10:.*cifar\)/],
    ['tests/test_data_set_0/input_0.pb', /onnx:.*tests\)/],
    ['digits/train-images-idx3-ubyte.gz', /mnist:.*digits\)/],
    ['others/notes.txt', /none of the files that mnc reads/],
    ['table.npz', /write npz:.*table\.npz\)/],
    ['shard.tar.gz', /write tar:.*shard\.tar\.gz\)/],
    ['table.csv', /does not read \.csv files: .*numpy\.savez/],
  ] as const)
    assert.throws(
      () => parseDataReference(put(file)),
      (e) => told.test(String(e)),
      file,
    )
})

test('the embedded set: sizes, labels of every class, statistics near the published ones', async () => {
  const train = await openPictures('embedded', 'train')
  const held = await openPictures('embedded', 'test')
  const natural = await openPictures('embedded#test', 'train')
  assert.deepEqual(
    [train.size, held.size, natural.size, train.classes, train.channels, train.height],
    [9000, 2000, 2000, 10, 1, 28],
  )
  const counts = new Array<number>(10).fill(0)
  for (const label of train.labels) counts[label]!++
  assert.ok(
    counts.every((n) => n > 800 && n < 1000),
    String(counts),
  )
  const [published, own] = [await held.statistics(), computeStatistics(train)]
  assert.ok(Math.abs(published.mean[0]! - own.mean[0]!) < 0.002)
  assert.ok(Math.abs(published.std[0]! - own.std[0]!) < 0.002)
  assert.equal(train.classNames?.[train.labels[0]!], 'Ankle boot')
  assert.ok(train.images.buffer instanceof SharedArrayBuffer)
})

test('IDX: plain and gzipped files read the same; the test split has the training statistics', async () => {
  const plain = folder('idx')
  for (const name of [
    'train-images-idx3-ubyte',
    'train-labels-idx1-ubyte',
    't10k-images-idx3-ubyte',
    't10k-labels-idx1-ubyte',
  ])
    writeFileSync(join(plain, name), gunzipSync(readFileSync(`data/fashion-mnist/${name}.gz`)))
  const a = await openPictures(`mnist:${plain}`, 'test')
  const b = await openPictures('mnist:data/fashion-mnist#test', 'train')
  assert.ok(Buffer.compare(a.images, b.images) === 0)
  assert.deepEqual(a.labels, b.labels)
  assert.deepEqual(await a.statistics(), computeStatistics(await openPictures(`mnist:${plain}`, 'train')))
  truncateSync(join(plain, 't10k-images-idx3-ubyte'), 5000)
  await assert.rejects(
    openPictures(`mnist:${plain}`, 'test'),
    /t10k-images-idx3-ubyte: 1568000 values declared, 4984 present/,
  )
})

test('CIFAR records: label bytes, planes, several parts in order, damaged files', async () => {
  const at = folder('cifar')
  const record = (labels: number[], seed: number) =>
    Buffer.concat([Buffer.from(labels), Buffer.from(Array.from({ length: 3072 }, (_, i) => (i * 7 + seed) % 256))])
  writeFileSync(join(at, 'train-part10.bin'), record([1, 77], 3))
  writeFileSync(join(at, 'train-part2.bin'), Buffer.concat([record([0, 5], 1), record([19, 99], 2)]))
  const set = await openPictures(`cifar100:${at}`, 'train')
  assert.deepEqual([...set.labels], [5, 99, 77])
  assert.deepEqual([...set.image(2).subarray(0, 3)], [3, 10, 17])
  for (let i = 1; i <= 5; i++) writeFileSync(join(at, `data_batch_${i}.bin`), record([i], i))
  assert.deepEqual([...(await openPictures(`cifar10:${at}`, 'train')).labels], [1, 2, 3, 4, 5])
  await assert.rejects(
    openPictures(`cifar10:${at}`, 'test'),
    /lacks files of this data set; the test split needs test_batch\.bin/,
  )
  await assert.rejects(openPictures('cifar10:no/such', 'test'), /there is no folder 'no\/such'/)
  writeFileSync(join(at, 'test_batch.bin'), Buffer.alloc(4000))
  await assert.rejects(openPictures(`cifar10:${at}`, 'test'), /4000 bytes are not a whole number of records/)
  writeFileSync(join(at, 'test.bin'), record([0, 200], 1))
  await assert.rejects(openPictures(`cifar100:${at}`, 'test'), /label 200 is outside 0\.\.99/)
})

test('CIFAR-10 itself: its test split has nearly the published statistics of the training split', async (t) => {
  if (!existsSync('.data/cifar-10/test_batch.bin')) return t.skip('CIFAR-10 is not in .data/')
  const set = await openPictures('cifar10:.data/cifar-10', 'test')
  assert.deepEqual([set.size, set.classes], [10000, 10])
  const [published, own] = [await set.statistics(), computeStatistics(set)]
  for (let c = 0; c < 3; c++) {
    assert.ok(Math.abs(published.mean[c]! - own.mean[c]!) < 0.005)
    assert.ok(Math.abs(published.std[c]! - own.std[c]!) < 0.005)
  }
})

test('take and splitValidation: shared memory, stratified, deterministic, disjoint', async () => {
  const set = await openPictures('embedded#test', 'train')
  const few = set.take(100)
  assert.equal(few.images.buffer, set.images.buffer)
  assert.deepEqual([few.size, set.take(5000).size], [100, 2000])
  const { train, validation } = set.splitValidation(0.1, 7)
  assert.deepEqual([train.size, validation.size], [1800, 200])
  const per = (labels: Int32Array) => {
    const n = new Array<number>(10).fill(0)
    for (const label of labels) n[label]!++
    return n
  }
  const [all, held] = [per(set.labels), per(validation.labels)]
  for (let c = 0; c < 10; c++) assert.ok(Math.abs(held[c]! - all[c]! / 10) <= 1)
  assert.ok(Buffer.compare(set.splitValidation(0.1, 7).validation.images, validation.images) === 0)
  assert.ok(Buffer.compare(set.splitValidation(0.1, 8).validation.images, validation.images) !== 0)
  const key = (s: typeof set, i: number) => Buffer.from(s.image(i)).toString('base64')
  const inTrain = new Set(Array.from({ length: train.size }, (_, i) => key(train, i)))
  for (let i = 0; i < validation.size; i++) assert.ok(!inTrain.has(key(validation, i)))
  assert.throws(() => set.splitValidation(1, 0), /between 0 and 1/)
  assert.throws(() => set.take(0), /cannot take 0/)
})

test('npz as numpy writes it: layouts, types, splits, compression', async (t) => {
  if (!has('numpy')) return t.skip("Debian's python3-numpy is not installed")
  const at = folder('npz')
  python(
    `
import numpy as np, sys
d = sys.argv[1]
x = (np.arange(5*4*6*3).reshape(5,4,6,3) * 7 % 256).astype(np.uint8)
y = np.array([0,1,2,1,0])
np.savez(d + '/hwc.npz', images=x, labels=y)
np.savez_compressed(d + '/chw.npz', x=x.transpose(0,3,1,2).copy(), y=y.astype(np.uint8).reshape(5,1))
np.savez(d + '/float.npz', train_images=x[:3] / np.float32(255), train_labels=y[:3], test_images=(x[3:] / 255.0), test_labels=y[3:])
np.savez(d + '/fortran.npz', images=np.asfortranarray(x), labels=y)
np.savez(d + '/none.npz', z=y)
`,
    at,
  )
  const [hwc, chw] = [await openPictures(`npz:${at}/hwc.npz`, 'train'), await openPictures(`npz:${at}/chw.npz`, 'test')]
  assert.deepEqual([hwc.size, hwc.classes, hwc.channels, hwc.height, hwc.width], [5, 3, 3, 4, 6])
  assert.deepEqual([...hwc.images.subarray(0, 3)], [0, 21, 42])
  assert.ok(Buffer.compare(hwc.images, chw.images) === 0)
  assert.deepEqual([...chw.labels], [0, 1, 2, 1, 0])
  const [train, held] = [
    await openPictures(`npz:${at}/float.npz`, 'train'),
    await openPictures(`npz:${at}/float.npz`, 'test'),
  ]
  assert.ok(Buffer.compare(Buffer.concat([train.images, held.images]), hwc.images) === 0)
  assert.deepEqual(await held.statistics(), computeStatistics(train))
  await assert.rejects(openPictures(`npz:${at}/fortran.npz`, 'train'), /array 'images' has an unsupported form/)
  await assert.rejects(openPictures(`npz:${at}/none.npz`, 'train'), /holds arrays, and pictures are needed here/)
  await assert.rejects(openPictures('npz:data/fashion-mnist/LICENSE', 'train'), /not a ZIP archive/)
  await assert.rejects(openPictures('npz:no.npz', 'train'), /there is no file 'no\.npz'/)
})

test('a folder of PNG, JPEG and WebP files: classes, splits, interleaving, pixels', async (t) => {
  if (!has('PIL')) return t.skip("Debian's python3-pil is not installed")
  const decoder = await import('sharp').catch(() => null)
  if (!decoder) return t.skip('the optional decoder sharp is not installed')
  const at = folder('images')
  python(
    `
import os, sys
from PIL import Image
for split, n in (('train', 3), ('val', 1)):
    for k, name in enumerate(('cat', 'dog')):
        d = os.path.join(sys.argv[1], split, name)
        os.makedirs(d)
        for i in range(n + k):
            Image.new('RGB', (10, 8), (20 * i, 100 * k, 7)).save(f'{d}/{i}.' + ('png', 'webp', 'jpg', 'png')[i], lossless=True, quality=100)
`,
    at,
  )
  const train = await openPictures(`folder:${at}`, 'train')
  assert.deepEqual([train.size, train.classes, train.channels, train.height, train.width], [7, 2, 3, 8, 10])
  assert.deepEqual([...train.labels], [0, 1, 0, 1, 0, 1, 1])
  assert.deepEqual(train.classNames, ['cat', 'dog'])
  const pixels = await inMemory(train)
  const first = (i: number) => [0, 80, 160].map((p) => pixels.image(i)[p])
  assert.deepEqual(
    [first(0), first(1), first(2), first(3), first(6)],
    [
      [0, 0, 7],
      [0, 100, 7],
      [20, 0, 7],
      [20, 100, 7],
      [60, 100, 7],
    ],
  )
  const held = await openPictures(`folder:${at}`, 'test')
  assert.deepEqual([...held.labels], [0, 1, 1])
  assert.deepEqual(await held.statistics(), computeStatistics(pixels))
  writeFileSync(join(at, 'train/cat/9.png'), 'not an image')
  await assert.rejects(openPictures(`folder:${at}`, 'train'), /9\.png is not a readable image/)
  await assert.rejects(openPictures(`folder:${folder('bare')}`, 'train'), /no PNG, JPEG or WebP files/)
})
