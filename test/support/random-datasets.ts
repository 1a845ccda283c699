/**
 * Random data sets of every kind that is read from files, valid and broken, each made from nothing but its seed, with the
 * right answer known from how it was made: images, labels and first pixels of each split, or that it must be refused. A
 * broken set has one fault.
 */
import { mkdirSync, symlinkSync, writeFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { gzipSync } from 'node:zlib'
import { Rng } from '../../src/base/rng.ts'
import { cifarRecord, idx, npy, npz, png } from './data-files.ts'

export type SplitName = 'train' | 'test'

/** What a split holds: images in any order, each as class (its name, or its number where there is none) and first byte. */
export interface KnownSplit {
  readonly images: readonly (readonly [string | number, number])[]
}

export interface MadeDataset {
  /** For `--data`. */
  readonly reference: string
  /** What is special about it, for messages. */
  readonly what: string
  /** null: it must be refused, whichever split is asked for. */
  readonly splits: Readonly<Record<SplitName, KnownSplit>> | null
  readonly classes: number
  readonly channels: 1 | 3
  /** Files and folders in it that are not part of the set, and must be counted. */
  readonly leftOut: Readonly<Record<SplitName, number>>
}

const kinds = ['folder', 'npz', 'mnist', 'cifar10', 'cifar100'] as const
const NOTHING = { train: 0, test: 0 }

/** Writes the set of `seed` into the empty folder `at`. */
export function makeDataset(seed: number, at: string): MadeDataset {
  const rng = new Rng(77, seed)
  const kind = pick(rng, kinds)
  const broken = rng.chance(0.5)
  if (kind === 'folder') return makeFolder(rng, at, broken)
  if (kind === 'npz') return makeNpz(rng, at, broken)
  if (kind === 'mnist') return makeIdx(rng, at, broken)
  return makeCifar(kind, rng, at, broken)
}

const pick = <T>(rng: Rng, list: readonly T[]): T => list[rng.integer(list.length)]!
const bytesOf = (rng: Rng, n: number): Uint8Array => Uint8Array.from({ length: n }, () => rng.integer(256))

function write(path: string, bytes: string | Uint8Array): void {
  mkdirSync(dirname(path), { recursive: true })
  writeFileSync(path, bytes)
}

// ------------------------------------------------------------------------------------------------------------ folders

const classPool = ['cat', 'Dog', '10', '9', 'été', 'a b', 'x.y', '-minus', '日本', '\u{1F600}', 'Z', '__a', 'train car']
const folderFaults = [
  'test-only class',
  'case twin',
  'loose link',
  'circle',
  'self',
  'cut short',
  'empty file',
  'SVG',
] as const

function makeFolder(rng: Rng, at: string, broken: boolean): MadeDataset {
  const names = new Rng(rng.integer(1e6)).shuffle([...classPool]).slice(0, 1 + rng.integer(5))
  const grey = rng.chance(0.2)
  const layout = pick(rng, [
    ['train', 'test'],
    ['train', 'val'],
    ['Train', 'VALIDATION'],
    ['.', '.'],
  ] as const)
  const leftOut = { train: 0, test: 0 }
  const side = 4 + rng.integer(4)
  const splits: Record<SplitName, [string, number][]> = { train: [], test: [] }
  const roots = { train: join(at, 'set', layout[0]), test: join(at, 'set', layout[1]) }
  const single = layout[0] === '.'
  const picture = (v: number): Buffer => {
    const channels = grey ? 1 : pick(rng, [3, 3, 3, 4, 1])
    const of = Uint8Array.from({ length: side * side * channels }, (_, i) => (channels === 4 && i % 4 === 3 ? 255 : v))
    return png(side, side, channels, of)
  }
  for (const split of single ? (['train'] as const) : (['train', 'test'] as const)) {
    const root = roots[split]
    for (const [k, name] of names.entries()) {
      // where links lead to, outside the set
      const linked = rng.chance(0.2)
      const folder = linked ? join(at, 'elsewhere', split, name) : join(root, name)
      mkdirSync(folder, { recursive: true })
      if (linked) {
        mkdirSync(root, { recursive: true })
        symlinkSync(folder, join(root, name))
      }
      const count = k === 0 ? 1 + rng.integer(3) : rng.integer(4)
      for (let i = 0; i < count; i++) {
        const v = rng.integer(256)
        const file = `${pick(rng, ['', 'img', '00', 'é '])}${i}.${pick(rng, ['png', 'PNG', 'jpg', 'jpeg', 'webp'])}`
        if (rng.chance(0.1)) {
          write(join(at, 'pictures', `${split}-${k}-${i}`), picture(v))
          symlinkSync(join(at, 'pictures', `${split}-${k}-${i}`), join(folder, file))
        } else write(join(folder, file), picture(v))
        splits[split].push([name, v])
      }
      leftOut[split] += noise(rng, folder)
    }
    leftOut[split] += noise(rng, root)
  }
  // a set of colours has to have one picture of them
  if (!grey) {
    const v = rng.integer(256)
    for (const split of single ? (['train'] as const) : (['train', 'test'] as const)) {
      write(join(roots[split], names[0]!, '~colour.png'), png(side, side, 3, new Uint8Array(side * side * 3).fill(v)))
      splits[split].push([names[0]!, v])
    }
  }
  if (single) {
    splits.test = splits.train
    leftOut.test = leftOut.train
  }
  const what = broken ? breakFolder(rng, roots, names, single, side) : 'valid'
  return {
    reference: `folder:${join(at, 'set')}`,
    what: `folder, ${layout.join(' and ')}: ${what}`,
    splits: broken ? null : { train: { images: splits.train }, test: { images: splits.test } },
    ...{ classes: names.length, channels: grey ? 1 : 3, leftOut },
  }
}

/** Puts things into a folder that are not part of a set; returns how many. */
function noise(rng: Rng, folder: string): number {
  const things: readonly (readonly [string, string])[] = [
    ['._0.png', 'x'],
    ['notes.txt', 'x'],
    ['old.gif', 'x'],
    ['README', 'x'],
    ['.hidden/deep/0.png', 'x'],
  ]
  let count = 0
  for (const [path, content] of things)
    if (rng.chance(0.1)) {
      write(join(folder, path), content)
      count++
    }
  return count
}

function breakFolder(
  rng: Rng,
  roots: Readonly<Record<SplitName, string>>,
  names: readonly string[],
  single: boolean,
  side: number,
): string {
  const possible = single ? folderFaults.slice(2) : folderFaults
  const fault = pick(rng, possible)
  // both splits must fail, so that which one is asked for does not matter
  const places = single ? [roots.train] : [roots.train, roots.test]
  const plain = png(side, side, 3, new Uint8Array(side * side * 3))
  switch (fault) {
    case 'test-only class':
      write(join(roots.test, 'newcomer', '0.png'), plain)
      break
    case 'case twin': {
      const name = names.find((n) => n.toLowerCase() !== n.toUpperCase())
      const twin = name === undefined ? 'Other' : name === name.toLowerCase() ? name.toUpperCase() : name.toLowerCase()
      write(join(roots.test, twin, '0.png'), plain)
      break
    }
    case 'loose link':
      for (const p of places) symlinkSync('/no/such/place', join(p, pick(rng, ['lost', `${names[0]}/lost.png`])))
      break
    case 'circle':
      for (const p of places) symlinkSync('round', join(p, 'round'))
      break
    case 'self':
      for (const p of places) symlinkSync(pick(rng, ['.', '..']), join(p, 'itself'))
      break
    case 'cut short':
      for (const p of places) write(join(p, names[0]!, 'cut.png'), plain.subarray(0, 8 + rng.integer(30)))
      break
    case 'empty file':
      for (const p of places) write(join(p, names[0]!, 'empty.jpg'), '')
      break
    case 'SVG':
      for (const p of places)
        write(
          join(p, names[0]!, 'drawn.png'),
          '<svg xmlns="http://www.w3.org/2000/svg" width="4" height="4"><rect/></svg>',
        )
      break
  }
  return fault
}

// ---------------------------------------------------------------------------------------------------- numpy archives

const npzFaults = [
  ...[
    'flipped bit',
    'fraction',
    'NaN label',
    'negative label',
    'huge label',
    'fewer labels',
    'pixel out of range',
    'NaN pixel',
  ],
  ...['pixel type', 'cut short', 'no labels', 'Fortran order', 'more than its shape', 'less than it says', 'no images'],
]

function makeNpz(rng: Rng, at: string, broken: boolean): MadeDataset {
  const fault = broken ? pick(rng, npzFaults) : 'valid'
  const single = rng.chance(0.3)
  const channels = pick(rng, [1, 3] as const)
  const type = fault.includes('pixel')
    ? pick(rng, ['f4', 'f8'])
    : pick(rng, ['u1', 'u1', 'b1', 'f4', 'f8', 'f4 0..255'])
  const last = rng.chance(0.5)
  const [height, width] = [4 + rng.integer(4), 4 + rng.integer(4)]
  const prefix = pick(rng, ['before', 'behind'])
  const [images, labels] = pick(rng, [
    ['images', 'labels'],
    ['x', 'y'],
  ] as const)
  const arrays: Record<string, Uint8Array> = {}
  const splits: Record<SplitName, [number, number][]> = { train: [], test: [] }
  let top = 0
  for (const split of single ? (['train'] as const) : (['train', 'test'] as const)) {
    const count = 1 + rng.integer(6)
    const size = count * height * width * channels
    const name = (stem: string) => (single ? stem : prefix === 'before' ? `${split}_${stem}` : `${stem}_${split}`)
    // bytes that every type can hold; a float split says its range itself
    const bytes = bytesOf(rng, size).map((v) => (type === 'b1' ? (v & 1) * 255 : v))
    if (type === 'f4 0..255') bytes[size - 1] = 200
    const values = pixelsOf(type, bytes)
    const dims =
      channels === 1 && !last
        ? [count, height, width]
        : last
          ? [count, height, width, channels]
          : [count, channels, height, width]
    if (fault === 'pixel out of range') values[rng.integer(size)] = pick(rng, [-1, 1.5, 300, 1e30])
    if (fault === 'NaN pixel') values[rng.integer(size)] = pick(rng, [Number.NaN, Number.POSITIVE_INFINITY])
    const own = Array.from({ length: count }, () => rng.integer(4))
    top = Math.max(top, ...own)
    arrays[name(images)] =
      fault === 'pixel type'
        ? npy(Int16Array.from(bytes), dims)
        : npy(values, dims, { fortran: fault === 'Fortran order', ...(type === 'b1' && { type: '|b1' }) })
    arrays[name(labels)] = npy(
      labelsOf(rng, own, fault),
      rng.chance(0.3) ? [own.length - short(fault), 1] : [own.length - short(fault)],
    )
    const stride = dims.at(-1) === channels && last ? height * width * channels : height * width * channels
    for (const [i, label] of own.entries()) splits[split].push([label, bytes[i * stride]!])
    if (fault === 'no labels') delete arrays[name(labels)]
    if (fault === 'no images') arrays[name(images)] = npy(new Uint8Array(0), [0, height, width])
    if (fault === 'more than its shape') arrays[name(images)] = Buffer.concat([arrays[name(images)]!, Buffer.alloc(9)])
  }
  if (single) splits.test = splits.train
  const deflate = rng.chance(0.5)
  const names = Object.keys(arrays)
  if (rng.chance(0.2)) arrays.weights = npy(Float32Array.of(1, 2), [2])
  let file: Buffer = npz(arrays, { deflate, ...(fault === 'less than it says' && { lies: { bytes: 100_000 } }) })
  if (fault === 'cut short') file = file.subarray(0, rng.integer(file.length - 20))
  if (fault === 'flipped bit') {
    // in the stored body of each array that a split reads; its header is 128 bytes
    file = npz(arrays)
    for (const name of names) {
      const from = file.indexOf(`${name}.npy`) + name.length + 4
      file[from + arrays[name]!.length - 1 - rng.integer(4)]! ^= 1 << rng.integer(8)
    }
  }
  write(join(at, 'set.npz'), file)
  return {
    reference: `npz:${join(at, 'set.npz')}`,
    what: `npz, ${type}, ${channels} channels, ${single ? 'one split' : 'two splits'}${deflate ? ', deflated' : ''}: ${fault}`,
    splits: broken ? null : { train: { images: splits.train }, test: { images: splits.test } },
    ...{ classes: top + 1, channels, leftOut: NOTHING },
  }
}

const short = (fault: string): number => (fault === 'fewer labels' ? 1 : 0)

function pixelsOf(type: string, bytes: Uint8Array): Uint8Array | Float32Array | Float64Array {
  if (type === 'u1') return bytes
  if (type === 'b1') return bytes.map((v) => v & 1)
  if (type === 'f4 0..255') return Float32Array.from(bytes)
  return type === 'f4' ? Float32Array.from(bytes, (v) => v / 255) : Float64Array.from(bytes, (v) => v / 255)
}

function labelsOf(rng: Rng, labels: readonly number[], fault: string) {
  const bad: Readonly<Record<string, readonly number[]>> = {
    fraction: [0.5, 1e-9, 2.999],
    'NaN label': [Number.NaN, Number.POSITIVE_INFINITY],
    'negative label': [-1, -128],
    'huge label': [2 ** 20, 2 ** 28, 2 ** 40 + 1, 1e300],
  }
  const values = labels.slice(0, labels.length - short(fault))
  if (!bad[fault])
    return pick(rng, [
      Uint8Array,
      Int8Array,
      Uint16Array,
      Int16Array,
      Int32Array,
      Uint32Array,
      Float32Array,
      Float64Array,
    ]).from(values)
  values[rng.integer(values.length)] = pick(rng, bad[fault])
  return Float64Array.from(values)
}

// --------------------------------------------------------------------------------------------------------- IDX, CIFAR

const idxFaults = [
  'cut short',
  'too long',
  'magic',
  'labels missing',
  'other count',
  'no images',
  'no pixels',
  'huge dims',
  'bad gzip',
]

function makeIdx(rng: Rng, at: string, broken: boolean): MadeDataset {
  const fault = broken ? pick(rng, idxFaults) : 'valid'
  const dash = pick(rng, ['-', '.'])
  const zipped = fault === 'bad gzip' || rng.chance(0.5)
  const [height, width] = [4 + rng.integer(4), 4 + rng.integer(4)]
  const splits: Record<SplitName, [number, number][]> = { train: [], test: [] }
  const most = pick(rng, [10, 10, 40])
  let top = 9
  for (const [split, stem] of [
    ['train', 'train'],
    ['test', 't10k'],
  ] as const) {
    const count = fault === 'no images' ? 0 : 1 + rng.integer(6)
    const h = fault === 'no pixels' ? 0 : height
    const bytes = bytesOf(rng, count * h * width)
    const labels = Uint8Array.from({ length: count }, () => rng.integer(most))
    for (const [i, label] of labels.entries()) splits[split].push([label, bytes[i * height * width]!])
    top = Math.max(top, ...labels)
    let images = idx(fault === 'huge dims' ? [count, 0xffffffff, 0xffffffff] : [count, h, width], bytes)
    if (fault === 'cut short') images = images.subarray(0, rng.integer(images.length))
    if (fault === 'too long') images = Buffer.concat([images, Buffer.alloc(1 + rng.integer(5))])
    if (fault === 'magic') images[pick(rng, [0, 1, 2, 3])]! ^= 1 + rng.integer(255)
    const classes = idx(
      [labels.length + (fault === 'other count' ? 1 : 0)],
      fault === 'other count' ? Buffer.concat([labels, Buffer.of(0)]) : labels,
    )
    const put = (name: string, data: Buffer): void => {
      const packed = zipped ? gzipSync(data) : data
      if (fault === 'bad gzip') packed[10 + rng.integer(packed.length - 10)]! ^= 1 << rng.integer(8)
      write(join(at, 'set', `${name}${zipped ? '.gz' : ''}`), packed)
    }
    put(`${stem}-images${dash}idx3-ubyte`, images)
    if (fault !== 'labels missing') put(`${stem}-labels${dash}idx1-ubyte`, classes)
  }
  return {
    reference: `mnist:${join(at, 'set')}`,
    what: `IDX${zipped ? ', gzip' : ''}: ${fault}`,
    splits: broken ? null : { train: { images: splits.train }, test: { images: splits.test } },
    ...{ classes: top + 1, channels: 1, leftOut: NOTHING },
  }
}

const cifarFaults = ['part missing', 'cut short', 'large label', 'empty part']

function makeCifar(kind: 'cifar10' | 'cifar100', rng: Rng, at: string, broken: boolean): MadeDataset {
  const fault = broken ? pick(rng, cifarFaults) : 'valid'
  const nested = rng.chance(0.3)
  const classes = kind === 'cifar10' ? 10 : 100
  const folder = nested
    ? join(at, 'set', kind === 'cifar10' ? 'cifar-10-batches-bin' : 'cifar-100-binary')
    : join(at, 'set')
  const parts = { train: ['train.bin'], test: ['test.bin'] }
  if (kind === 'cifar10')
    Object.assign(parts, { train: [1, 2, 3, 4, 5].map((n) => `data_batch_${n}.bin`), test: ['test_batch.bin'] })
  else if (rng.chance(0.4)) parts.train = [1, 2, 10].map((n) => `train-part${n}.bin`)
  const splits: Record<SplitName, [number, number][]> = { train: [], test: [] }
  for (const split of ['train', 'test'] as const) {
    // the last of several, or the only one
    const victim = pick(rng, parts[split])
    for (const part of parts[split]) {
      const count = 1 + rng.integer(2)
      const records = Array.from({ length: count }, () => {
        const wrong = fault === 'large label' && part === victim
        const label = wrong ? classes + rng.integer(256 - classes) : rng.integer(classes)
        const v = rng.integer(256)
        splits[split].push([label, v])
        return cifarRecord(kind === 'cifar10' ? [label] : [rng.integer(20), label], () => v)
      })
      const bytes = Buffer.concat(records)
      // of parts by number any may be there
      if (fault === 'part missing' && (part === victim || kind === 'cifar100')) continue
      const cut = fault === 'cut short' && part === victim ? 1 + rng.integer(3000) : 0
      write(join(folder, part), fault === 'empty part' && part === victim ? '' : bytes.subarray(0, bytes.length - cut))
    }
  }
  mkdirSync(folder, { recursive: true })
  return {
    reference: `${kind}:${join(at, 'set')}`,
    what: `${kind}: ${fault}`,
    splits: broken ? null : { train: { images: splits.train }, test: { images: splits.test } },
    ...{ classes, channels: 3, leftOut: NOTHING },
  }
}
