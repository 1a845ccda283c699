/** Folders of pictures: everything in them is used, counted as left out, or named in an error. */
import assert from 'node:assert/strict'
import { execFileSync } from 'node:child_process'
import {
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { after, test } from 'node:test'
import { Rng } from '../../src/base/rng.ts'
import { computeStatistics } from '../../src/data/dataset.ts'
import { createLoader, type Dataset, evalBatches, openPictures, type Preprocess } from '../../src/data/index.ts'
import { openStore } from '../../src/data/picture-store.ts'
import { openFolder } from '../../src/data/readers/folder.ts'
import { type ResizeMode, Resizer } from '../../src/data/resize.ts'
import { png } from '../support/data-files.ts'
import { inMemory } from '../support/in-memory.ts'

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
const open = (root: string, split: 'train' | 'test' = 'train'): Promise<Dataset> =>
  openPictures(`folder:${root}`, split)
/** [class name, first byte] of each image. */
const content = async (set: Dataset): Promise<[string, number][]> => {
  const held = await inMemory(set)
  return Array.from(set.labels, (label, i): [string, number] => [set.classNames![label]!, held.image(i)[0]!]).sort()
}

test('classes are in the order of code points', { skip }, async () => {
  const names = ['b', 'B', '10', '9', 'é', 'a_b', 'aB', '\u{1F600}', '\uFF21']
  const root = folder(Object.fromEntries(names.map((n, i) => [`${n}/0.png`, i])))
  const set = await open(root)
  assert.deepEqual(set.classNames, ['10', '9', 'B', 'a_b', 'aB', 'b', 'é', '\uFF21', '\u{1F600}'].sort(byCodePoint))
  assert.deepEqual(await content(set), names.map((n, i): [string, number] => [n, i]).sort())
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
      next: /'cat' is a different one/,
    })
  const fewer = folder({ 'train/cat/0.png': 1, 'train/dog/0.png': 2, 'val/dog/0.png': 3 })
  const held = await open(fewer, 'test')
  assert.deepEqual([held.classes, await content(held)], [2, [['dog', 3]]])
  assert.ok(held.notes.includes('classes without pictures: cat'), held.notes.join())
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
  assert.deepEqual(await content(await open(root)), train)
  assert.deepEqual(await content(await open(root, 'test')), [['cat', 4]])
  for (const [link, target, message] of [
    ['train/self', '.', /train\/self is a link to a folder that contains it/],
    ['train/up', '..', /train\/up is a link to a folder that contains it/],
    ['train/round', 'round', /train\/round is a link that leads back to itself/],
    ['train/lost', '/no/such/folder', /train\/lost is a link to something that does not exist/],
    ['train/cow/9.png', 'nowhere.png', /cow\/9\.png is a link to something that does not exist/],
    ['val', 'nowhere', /val is a link to something that does not exist/],
  ] as const) {
    symlinkSync(target, join(root, link))
    await assert.rejects(open(root), message)
    rmSync(join(root, link))
  }
  symlinkSync('..', join(root, 'train/cow/above'))
  assert.deepEqual(await content(await open(root)), train)
})

test('splits by any case of letters; two of one name are an error; what lies next to them is named', {
  skip,
}, async () => {
  const root = folder({ 'Train/a/0.png': 1, 'VAL/a/0.png': 2, 'notes/x.txt': 'x' })
  assert.deepEqual([await content(await open(root)), await content(await open(root, 'test'))], [[['a', 1]], [['a', 2]]])
  assert.match((await open(root)).notes.join(), /left out next to the splits: notes/)
  mkdirSync(join(root, 'train'))
  await assert.rejects(open(root), /has Train and train|has train and Train/)
  const held = folder({ 'val/b/0.png': 1, 'val/a/0.png': 2 })
  assert.deepEqual((await open(held, 'test')).classNames, ['a', 'b'])
  await assert.rejects(open(held), /lacks the folder of the train split/)
  assert.match((await open(folder({ 'a/0.png': 1 }))).notes.join(), /all pictures belong to both splits/)
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
    'left out: 1 .csv files, 1 nested folders, 1 other files, 1 pictures outside class folders, 1 pipes, sockets and devices, 1 resource forks (._*), 2 .gif files, 2 hidden folders'
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
  const held = await inMemory(set)
  const pixel = (i: number) => [0, 4, 8].map((at) => held.image(i)[at])
  assert.deepEqual(pixel(1), [40, 20, 10], 'flattened on black')
  assert.deepEqual(pixel(2), [0x12, 0x12, 0x12], 'the upper 8 bits')
  assert.deepEqual(pixel(3), [77, 77, 77])
  const note = set.notes.find((n) => n.startsWith('of 6 pictures'))
  assert.equal(
    note,
    'of 6 pictures 2 with transparency: flattened on black; 1 of more than 8 bits per channel: the upper 8 are used; 1 grey: repeated into three channels; 1 neither PNG, JPEG nor WebP inside, whatever their names; 2 of a size other than that of the first, 2x2',
  )
  const inks = await open(folder({ 'a/0.jpg': Buffer.from(CMYK, 'base64') }))
  const shown = (await inMemory(inks)).image(0)
  const corners = [0, 7, 56, 63].map((p) => [0, 64, 128].map((at) => shown[at + p]))
  assert.deepEqual(corners, CMYK_CORNERS)
  assert.match(inks.notes.join(), /1 CMYK: converted without colour profiles/)
  const svg = '<svg xmlns="http://www.w3.org/2000/svg" width="2" height="2"><rect width="2" height="2"/></svg>'
  await assert.rejects(open(folder({ 'a/0.png': svg })), /0\.png contains SVG, a drawing without pixels/)
  await assert.rejects(open(folder({ 'a/0.png': 1, 'a/1.png': '' })), /1\.png is empty/)
  const whole = png(
    40,
    40,
    3,
    Uint8Array.from({ length: 4800 }, (_, i) => (i * i) % 251),
  )
  const cut = await open(folder({ 'a/0.png': whole.subarray(0, 400) }))
  await assert.rejects(inMemory(cut), { message: /0\.png is not a readable image/, blame: 'user' })
})

/** Opaque pictures of noise. */
function many(count: number, width: number, height: number): string {
  const rng = new Rng(3)
  const pixels = () => Uint8Array.from({ length: width * height * 3 }, () => rng.integer(256))
  return folder(
    Object.fromEntries(Array.from({ length: count }, (_, i) => [`${i % 3}/${i}.png`, png(width, height, 3, pixels())])),
  )
}

const SIDE = 16
const IMAGE_BYTES = 3 * SIDE * SIDE
const toSide: Preprocess = { scale: 255, mean: [0, 0, 0], std: [1, 1, 1], size: [SIDE, SIDE], layout: 'NCHW' }

async function digest(batches: AsyncIterable<{ images: Float32Array; labels: Int32Array }>): Promise<number[]> {
  const all: number[] = []
  for await (const { images, labels } of batches) all.push(...images, ...labels)
  return all
}

const load = (set: Dataset, workers: number, from = 0, preprocess = toSide): Promise<number[]> =>
  digest(createLoader(set, { batchSize: 4, preprocess, augment: 'standard', seed: 5, workers }).batches(from, from + 4))

test('pictures are decoded once, to the same bytes whatever memory they may take', { skip }, async () => {
  const sets: Dataset[] = []
  const roots: string[] = []
  for (const pictures of [12, 5, 0]) {
    roots.push(many(12, 60, 50))
    sets.push(await openFolder(roots.at(-1)!, 'train', { memory: pictures * IMAGE_BYTES }))
  }
  const part = (set: Dataset) => set.splitValidation(0.3, 1).validation.take(3)
  const expected = { eval: await digest(evalBatches(part(sets[0]!), toSide, 2)), load: await load(sets[0]!, 0) }
  for (const [i, set] of sets.entries()) {
    for (const workers of [i, 0]) assert.deepEqual(await load(set, workers), expected.load)
    await inMemory(set.sized(toSide.size))
    rmSync(roots[i]!, { recursive: true })
    assert.deepEqual(await digest(evalBatches(part(set), toSide, 2)), expected.eval, 'of pictures that are gone')
    for (const workers of [i, 0]) assert.deepEqual(await load(set, workers), expected.load)
  }
  assert.ok(!readdirSync(tmpdir()).some((f) => f.startsWith(`mnc-${process.pid}-`)), 'no file is left')
})

test('each picture is decoded when it is needed; a damaged one is an error for whatever needs it', {
  skip,
}, async () => {
  const root = many(12, 60, 50)
  const set = await open(root)
  assert.notEqual(set.contentHash(), set.take(5).contentHash())
  writeFileSync(join(root, '1/10.png'), 'damaged')
  assert.equal((await digest(evalBatches(set.take(4), toSide, 2))).length, 4 * (IMAGE_BYTES + 1))
  for (const workers of [0, 2])
    await assert.rejects(load(set, workers), { message: /1\/10\.png is not a readable image/, blame: 'user' })
})

test('a picture of another size has its shorter side scaled and its centre cropped', { skip }, async () => {
  const pixels = Uint8Array.from({ length: 48 * 32 * 3 }, (_, i) => {
    const [x, y, c] = [Math.floor(i / 3) % 48, Math.floor(i / 144), i % 3]
    return 128 + 60 * Math.sin(x / (3 + c)) + 60 * Math.cos(y / 4 + c)
  })
  const set = await open(folder({ 'a/0.png': png(48, 32, 3, pixels), 'b/0.png': plain(9, SIDE) }))
  const [resized, same] = await decoded(set, 'bilinear')
  assert.deepEqual(same, new Uint8Array(IMAGE_BYTES).fill(9))
  const resizer = new Resizer([32, 48], [SIDE, 24], 'bilinear')
  const out = new Float32Array(SIDE * 24)
  let worst = 0
  for (let c = 0; c < 3; c++) {
    const plane = Float32Array.from({ length: 48 * 32 }, (_, p) => pixels[3 * p + c]!)
    resizer.plane(plane, 0, out, 0, 24, 1)
    for (let y = 0; y < SIDE; y++)
      for (let x = 0; x < SIDE; x++)
        worst = Math.max(worst, Math.abs(resized![(c * SIDE + y) * SIDE + x]! - out[y * 24 + x + 4]!))
  }
  // libvips rounds to whole levels between the axes and has weights of few bits
  assert.ok(worst < 2.5, `${worst} of 255 away from the triangle filter`)
  const [nearest] = await decoded(set, 'nearest')
  const known = new Set(pixels)
  assert.ok(nearest!.every((v) => known.has(v)))
})

async function decoded(set: Dataset, resize: ResizeMode): Promise<Uint8Array[]> {
  const held = await inMemory(set.sized([SIDE, SIDE], resize))
  return [held.image(0), held.image(1)]
}

test('mean and deviation are of all training pictures, in memory or not', { skip }, async () => {
  const root = many(70, 20, 30)
  for (const memory of [0, 70 * IMAGE_BYTES]) {
    const set = await openFolder(root, 'train', { memory })
    const expected = computeStatistics(await inMemory(set.sized(toSide.size)))
    assert.deepEqual(await set.sized(toSide.size).statistics(), expected)
    assert.deepEqual(await set.take(3).sized(toSide.size).statistics(), expected)
  }
})

test('a cache that is kept spares decoding; what is damaged or foreign in it is made anew', { skip }, async () => {
  const root = many(6, 60, 50)
  const cache = join(scratch, 'kept', 'deep')
  const opened = async () => (await openFolder(root, 'train', { memory: 2 * IMAGE_BYTES, cache })).sized(toSide.size)
  const expected = (await inMemory(await opened())).images
  const [name, ...others] = readdirSync(cache)
  assert.deepEqual(others, [])
  const path = join(cache, name!)
  const whole = readFileSync(path)
  const gone = await opened()
  assert.ok(gone.pixels)
  renameSync(root, `${root}-away`)
  assert.deepEqual((await inMemory(gone)).images, expected, 'of pictures that are gone')
  renameSync(`${root}-away`, root)
  const damages: Readonly<Record<string, Uint8Array>> = {
    empty: new Uint8Array(0),
    cut: whole.subarray(0, whole.length / 2),
    flipped: whole.map((b, i) => (i === 1000 ? b ^ 4 : b)),
    foreign: whole.map((b, i) => (i % (IMAGE_BYTES + 8) === IMAGE_BYTES ? b ^ 1 : b)),
    longer: Buffer.concat([whole, whole]),
  }
  for (const [what, bytes] of Object.entries(damages)) {
    writeFileSync(path, bytes)
    assert.deepEqual((await inMemory(await opened())).images, expected, what)
    assert.deepEqual(readFileSync(path).subarray(0, whole.length), whole, what)
  }
  writeFileSync(join(root, '0/0.png'), plain(1, 40))
  const first = async () => (await inMemory(await opened())).image(0)
  assert.deepEqual(await first(), new Uint8Array(IMAGE_BYTES).fill(1), 'another picture, another file')
  assert.equal(readdirSync(cache).length, 2)
})

test('a folder that cannot hold the cache is named; a disk without room for all is reported', { skip }, async () => {
  const root = many(3, 20, 20)
  const cache = join(root, '0/0.png')
  const set = await openFolder(root, 'train', { memory: 0, cache })
  await assert.rejects(inMemory(set.sized(toSide.size)), {
    message: /decoded pictures cannot be kept in .*0\.png/,
    next: /--data-cache/,
    blame: 'user',
  })
  const said: string[] = []
  const { file } = openStore(2 ** 20, 2 ** 40, 'ab'.repeat(32), { memory: 0, log: (m) => said.push(m) })
  assert.ok(file && file.end < 2 ** 20)
  assert.match(said.join(), /has room for \d+ of 1048576 pictures; the others are decoded whenever/)
})
