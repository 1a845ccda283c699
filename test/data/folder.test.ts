/** Folders of pictures: everything in them is used, counted as left out, or named in an error. */
import assert from 'node:assert/strict'
import { execFileSync } from 'node:child_process'
import { mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { after, test } from 'node:test'
import { createLoader, type Dataset, evalBatches, openDataset, type Preprocess } from '../../src/data/index.ts'
import { Rng } from '../../src/rng.ts'
import { png } from '../support/data-files.ts'

const skip = (await import('sharp').catch(() => null)) ? false : 'the optional decoder sharp is not installed'
const scratch = mkdtempSync(join(tmpdir(), 'mnc-folder-'))
after(() => rmSync(scratch, { recursive: true }))

let folders = 0
/** A folder of files, by path; a number is a 2x2 picture of that grey, as RGB. */
function folder(files: Readonly<Record<string, number | string | Uint8Array>>): string {
  const root = join(scratch, String(folders++))
  mkdirSync(root)
  for (const [path, content] of Object.entries(files)) {
    mkdirSync(dirname(join(root, path)), { recursive: true })
    writeFileSync(join(root, path), typeof content === 'number' ? plain(content) : content)
  }
  return root
}
const plain = (v: number, side = 2): Buffer => png(side, side, 3, new Uint8Array(side * side * 3).fill(v))
const open = (root: string, split: 'train' | 'test' = 'train', memory?: number): Promise<Dataset> =>
  openDataset(`folder:${root}`, split, { memory })
/** [class name, first byte] of each image. */
const content = (set: Dataset): [string, number][] =>
  Array.from(set.labels, (label, i): [string, number] => [set.classNames![label]!, set.image(i)[0]!]).sort()

test('classes are in the order of code points', { skip }, async () => {
  const names = ['b', 'B', '10', '9', 'é', 'a_b', 'aB', '\u{1F600}', '\uFF21']
  const root = folder(Object.fromEntries(names.map((n, i) => [`${n}/0.png`, i])))
  const set = await open(root)
  assert.deepEqual(set.classNames, ['10', '9', 'B', 'a_b', 'aB', 'b', 'é', '\uFF21', '\u{1F600}'].sort(byCodePoint))
  assert.deepEqual(content(set), names.map((n, i): [string, number] => [n, i]).sort())
})
const byCodePoint = (a: string, b: string): number => {
  const [x, y] = [[...a], [...b]].map((s) => s.map((c) => c.codePointAt(0)!.toString(16).padStart(6, '0')).join(''))
  return x! < y! ? -1 : 1
}

test('a class that only the test split has is an error that names it, whichever split is read', { skip }, async () => {
  const root = folder({ 'train/cat/0.png': 1, 'train/dog/0.png': 2, 'test/Cat/0.png': 3, 'test/cow/0.png': 4 })
  for (const split of ['train', 'test'] as const)
    await assert.rejects(open(root, split), {
      message: /classes that .*train lacks: 'Cat', 'cow'$/,
      next: /'cat' is another/,
    })
  const fewer = folder({ 'train/cat/0.png': 1, 'train/dog/0.png': 2, 'val/dog/0.png': 3 })
  const held = await open(fewer, 'test')
  assert.deepEqual([held.classes, content(held)], [2, [['dog', 3]]])
  assert.ok(held.notes.includes('classes without images: cat'), held.notes.join())
})

test('links to files, classes and splits are followed; circles and loose ends are errors', { skip }, async () => {
  const real = folder({ 'pictures/cat/0.png': 1, 'pictures/cat/1.png': 2, 'more/dog/0.png': 3, 'held/cat/7.png': 4 })
  const root = folder({ 'train/cow/0.png': 5 })
  symlinkSync(join(real, 'pictures/cat'), join(root, 'train/cat'))
  symlinkSync(join(real, 'more/dog'), join(root, 'train/dog'))
  symlinkSync(join(real, 'more/dog/0.png'), join(root, 'train/cow/1.png'))
  symlinkSync(join(real, 'held'), join(root, 'test'))
  const train = [
    ['cat', 1],
    ['cat', 2],
    ['cow', 3],
    ['cow', 5],
    ['dog', 3],
  ]
  assert.deepEqual(content(await open(root)), train)
  assert.deepEqual(content(await open(root, 'test')), [['cat', 4]])
  for (const [link, target, message] of [
    ['train/self', '.', /train\/self is a link to a folder that it lies in/],
    ['train/up', '..', /train\/up is a link to a folder that it lies in/],
    ['train/round', 'round', /train\/round is a link that leads in a circle/],
    ['train/lost', '/no/such/folder', /train\/lost is a link to something that is not there/],
    ['train/cow/9.png', 'nowhere.png', /cow\/9\.png is a link to something that is not there/],
    ['val', 'nowhere', /val is a link to something that is not there/],
  ] as const) {
    symlinkSync(target, join(root, link))
    await assert.rejects(open(root), message)
    rmSync(join(root, link))
  }
  symlinkSync('..', join(root, 'train/cow/above'))
  assert.deepEqual(content(await open(root)), train)
})

test('splits by any case of letters; two of one name are an error; what lies beside them is named', {
  skip,
}, async () => {
  const root = folder({ 'Train/a/0.png': 1, 'VAL/a/0.png': 2, 'notes/x.txt': 'x' })
  assert.deepEqual([content(await open(root)), content(await open(root, 'test'))], [[['a', 1]], [['a', 2]]])
  assert.match((await open(root)).notes.join(), /left out beside the splits: notes/)
  mkdirSync(join(root, 'train'))
  await assert.rejects(open(root), /has Train and train|has train and Train/)
  const held = folder({ 'val/b/0.png': 1, 'val/a/0.png': 2 })
  assert.deepEqual((await open(held, 'test')).classNames, ['a', 'b'])
  await assert.rejects(open(held), /lacks the folder of the train split/)
  assert.match((await open(folder({ 'a/0.png': 1 }))).notes.join(), /all images are both splits/)
})

test('what is left out is counted by its kind', { skip }, async () => {
  const root = folder({
    ...{ 'a/0.png': 1, 'a/._0.png': 'x', 'a/1.GIF': 'x', 'a/2.gif': 'x', 'a/README': 'x', 'a/deep/3.png': 2 },
    ...{ 'loose.png': 3, '.git/x.png': 4, '__MACOSX/a/._0.png': 'x', 'x.csv': 'x' },
  })
  execFileSync('mkfifo', [join(root, 'a/pipe.png')])
  const set = await open(root)
  assert.equal(set.size, 1)
  const expected =
    'left out: 1 .csv files, 1 nested folders, 1 other files, 1 pictures in no class folder, 1 pipes, sockets and devices, 1 resource forks (._*), 2 .gif files, 2 hidden folders'
  assert.ok(set.notes.includes(expected), set.notes.join('\n'))
})

/** An 8x8 JPEG of four inks, and its corners as PIL's convert('RGB') gives them. */
const CMYK =
  '/9j/7gAOQWRvYmUAZAAAAAAA/9sAQwAbEhQXFBEbFxYXHhwbIChCKyglJShROj0wQmBVZWRfVV1baniZgWpxkHNbXYW1hpCeo6utq2eAvMm6pseZqKuk/8AAFAgACAAIBEMRAE0RAFkRAEsRAP/EABcAAAMBAAAAAAAAAAAAAAAAAAADBAX/xAAYEAEAAwEAAAAAAAAAAAAAAAAABRVBYv/aAA4EQwBNAFkASwAAPwDdSxeA+y6f/9k='
const CMYK_CORNERS = [
  [196, 24, 111],
  [196, 140, 111],
  [73, 9, 41],
  [73, 52, 41],
]

test('pictures that are not plain are counted, and read as the documentation says', { skip }, async () => {
  const sharp = (await import('sharp')).default
  const rgba = png(
    2,
    2,
    4,
    Array.from({ length: 16 }, (_, i) => [200, 100, 50, 51][i % 4]!),
  )
  const deep = png(2, 2, 3, new Uint16Array(12).fill(0x12ff), { depth: 16 })
  const grey = png(2, 2, 1, new Uint8Array(4).fill(77))
  const frames = await sharp({ create: { width: 2, height: 4, channels: 3, background: { r: 9, g: 9, b: 9 } } })
    .composite([{ input: plain(200), left: 0, top: 2 }])
    .gif()
    .toBuffer()
  const root = folder({
    'a/0.png': plain(5),
    'a/1.png': rgba,
    'a/2.png': deep,
    'a/3.png': grey,
    'a/4.png': plain(9, 3),
    'a/5.png': frames,
  })
  const set = await open(root)
  const pixel = (i: number) => [0, 4, 8].map((at) => set.image(i)[at])
  assert.deepEqual(pixel(1), [40, 20, 10], 'flattened on black')
  assert.deepEqual(pixel(2), [0x12, 0x12, 0x12], 'the upper 8 bits')
  assert.deepEqual(pixel(3), [77, 77, 77])
  const note = set.notes.find((n) => n.startsWith('of 6 pictures'))
  assert.equal(
    note,
    'of 6 pictures 2 with transparency: flattened on black; 1 of more than 8 bits a channel: the upper 8 are used; 1 grey: repeated into three channels; 1 neither PNG, JPEG nor WebP inside, whatever their names; 2 of another size than the first: scaled and cropped to 2x2',
  )
  const inks = await open(folder({ 'a/0.jpg': Buffer.from(CMYK, 'base64') }))
  const corners = [0, 7, 56, 63].map((p) => [0, 64, 128].map((at) => inks.image(0)[at + p]))
  assert.deepEqual(corners, CMYK_CORNERS)
  assert.match(inks.notes.join(), /1 CMYK: converted without colour profiles/)
  const svg = '<svg xmlns="http://www.w3.org/2000/svg" width="2" height="2"><rect width="2" height="2"/></svg>'
  await assert.rejects(open(folder({ 'a/0.png': svg })), /0\.png holds SVG, a drawing without pixels/)
  await assert.rejects(open(folder({ 'a/0.png': 1, 'a/1.png': '' })), /1\.png is not a readable image/)
  await assert.rejects(
    open(
      folder({
        'a/0.png': png(
          40,
          40,
          3,
          Uint8Array.from({ length: 4800 }, (_, i) => (i * i) % 251),
        ).subarray(0, 400),
      }),
    ),
    /0\.png is not a readable image/,
  )
})

/** Opaque pictures of several sizes. */
function many(count: number, side: number): string {
  const rng = new Rng(3)
  const pixels = () => Uint8Array.from({ length: side * side * 3 }, () => rng.integer(256))
  return folder(
    Object.fromEntries(Array.from({ length: count }, (_, i) => [`${i % 3}/${i}.png`, png(side, side, 3, pixels())])),
  )
}

test('a set that takes more memory than it may is decoded as it is read, to the same bytes', { skip }, async () => {
  const root = many(12, 300) // 12 x 270 kB
  const [whole, lazy] = [await open(root, 'train', 4), await open(root, 'train', 1)]
  assert.ok(whole.pixels instanceof Uint8Array)
  assert.ok(!(lazy.pixels instanceof Uint8Array))
  assert.match(lazy.notes.join(), /decoded as they are needed, statistics from 64 at most/)
  assert.deepEqual(await lazy.statistics(), await whole.statistics())
  const preprocess: Preprocess = { scale: 255, ...(await whole.statistics()), size: [16, 16], layout: 'NCHW' }
  const digest = async (batches: AsyncIterable<{ images: Float32Array; labels: Int32Array }>) => {
    const all: number[] = []
    for await (const { images, labels } of batches) all.push(...images, ...labels)
    return all
  }
  const split = (set: Dataset) => set.splitValidation(0.3, 1).validation.take(3)
  assert.deepEqual(
    await digest(evalBatches(split(lazy), preprocess, 2)),
    await digest(evalBatches(split(whole), preprocess, 2)),
  )
  const load = (set: Dataset, workers: number) =>
    digest(createLoader(set, { batchSize: 4, preprocess, augment: 'standard', seed: 5, workers }).batches(0, 4))
  const expected = await load(whole, 0)
  for (const workers of [0, 2]) assert.deepEqual(await load(lazy, workers), expected)
  assert.notEqual(lazy.contentHash(), lazy.take(5).contentHash())
  writeFileSync(join(root, '1/1.png'), 'damaged')
  for (const workers of [0, 2])
    await assert.rejects(load(lazy, workers), { message: /1\.png is not a readable image/, blame: 'user' })
})
