/** WebDataset shards: pictures and arrays by key, splits, archives of other writers, and damage. */
import assert from 'node:assert/strict'
import { spawnSync } from 'node:child_process'
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { after, test } from 'node:test'
import { gzipSync } from 'node:zlib'
import { ArraySet, openDataset } from '../../src/data/index.ts'
import type { OpenOptions } from '../../src/data/open.ts'
import { archiveOf, tarMembers } from '../../src/data/readers/tar.ts'
import { MncError } from '../../src/index.ts'
import { npy, png, tar } from '../support/data-files.ts'
import { inMemory } from '../support/in-memory.ts'
import { peakOf } from '../support/peak-memory.ts'

const skip = (await import('sharp').catch(() => null)) ? false : 'the optional decoder sharp is not installed'
const scratch = mkdtempSync(join(tmpdir(), 'mnc-tar-'))
after(() => rmSync(scratch, { recursive: true }))

let folders = 0
function folder(files: Readonly<Record<string, Uint8Array | string>>): string {
  const at = join(scratch, String(folders++))
  for (const [name, content] of Object.entries(files)) {
    mkdirSync(dirname(join(at, name)), { recursive: true })
    writeFileSync(join(at, name), content)
  }
  return at
}
type Members = readonly (readonly [string, Uint8Array | string])[]
const picture = (value: number): Buffer => png(2, 2, 3, new Uint8Array(12).fill(value))

async function arrays(at: string, options: OpenOptions = {}, split: 'train' | 'test' = 'train'): Promise<ArraySet> {
  const set = await openDataset(`tar:${at}`, split, options)
  assert.ok(set instanceof ArraySet)
  return set
}
const columnOf = (set: ArraySet, name: string, rows: number[]): [string, readonly number[], number[]] => {
  const t = set.read(set.columns.find((c) => c.name === name)!, rows)
  return [t.type, t.dims, Array.from(t.toNumbers(), Number)]
}

test('pictures with their classes, of all shards of a split; statistics are the training split’s', {
  skip,
}, async () => {
  const shard = (from: number, labels: readonly (number | string)[]): Buffer =>
    tar(
      labels.flatMap(
        (label, i) =>
          [
            [`x/${from + i}.PNG`, picture(from + i)],
            [`x/${from + i}.cls`, `${label}\n`],
          ] as const,
      ),
    )
  const at = folder({
    'set-train-000000.tar': shard(0, [1, 0]),
    'set-train-000001.tar': shard(2, [2]),
    'set-val-000000.tar': shard(200, [4, 1]),
    'other.tar': shard(0, [9]),
  })
  const train = await openDataset(`tar:${at}`, 'train')
  const test = await openDataset(`tar:${at}`, 'test')
  assert.ok(!(train instanceof ArraySet) && !(test instanceof ArraySet))
  const bytes = async (set: typeof train): Promise<unknown> => {
    const own = await inMemory(set)
    return Array.from(own.labels, (label, i) => [own.image(i)[0], label])
  }
  assert.deepEqual(await bytes(train), [
    [0, 1],
    [1, 0],
    [2, 2],
  ])
  assert.deepEqual(await bytes(test), [
    [200, 4],
    [201, 1],
  ])
  assert.deepEqual([train.classes, test.classes], [5, 5])
  assert.match(train.notes.join(), /shards of neither split are not read: other\.tar/)
  assert.deepEqual(await test.statistics(), await train.statistics())
  assert.notEqual(train.contentHash(), test.contentHash())
})

test('without classes, with json, by folders, or in one file: what is read and what is not is said', {
  skip,
}, async () => {
  const one: Members = [
    ['a.png', picture(5)],
    ['a.txt', 'a caption'],
    ['b.png', picture(6)],
    ['b.txt', 'another'],
  ]
  const plain = await openDataset(`tar:${join(folder({ 's.tar': tar(one) }), 's.tar')}`, 'test')
  assert.deepEqual([plain.isLabelled, plain.size], [false, 2])
  assert.match(plain.notes.join(), /serves as both splits: it is one shard.*members that are not read: 2 \.txt/)
  const json: Members = [
    ['a.json', '{"label": 3, "text": "x"}'],
    ['a.png', picture(5)],
  ]
  const both = folder({
    'train/0.tar': tar(json),
    'val/0.tar': tar([
      ['a.json', '1'],
      ['a.jpg', picture(1)],
    ]),
  })
  const train = await openDataset(`tar:${both}`, 'train')
  assert.deepEqual([[...train.labels], train.classes], [[3], 4])
  assert.match(train.notes.join(), /^\S+0\.tar: only the test split has samples of class 1, which training never sees$/)
  assert.deepEqual([...(await openDataset(`tar:${both}`, 'test')).labels], [1])
})

test('arrays and fields of json by name, in any order, across shards', async () => {
  const sample = (i: number): Members => [
    [`d/${i}.x.npy`, npy(Float32Array.of(i, i + 0.5, -i), [3])],
    [`d/${i}.ids.npy`, npy(Int32Array.of(i, 7), [1, 2])],
    [
      `d/${i}.json`,
      JSON.stringify({ score: i / 4, whole: [i, 2 * i], deep: [[i], [1]], flag: i % 2 === 0, name: 'n', cls: i % 3 }),
    ],
  ]
  const of = (from: number, to: number): Buffer =>
    tar(Array.from({ length: to - from }, (_, k) => sample(from + k)).flat())
  const set = await arrays(folder({ '0.tar': of(0, 4), '1.tar': of(4, 5), '2.tar': of(5, 9) }))
  assert.deepEqual([set.size, set.classes, [...set.labels]], [9, 3, [0, 1, 2, 0, 1, 2, 0, 1, 2]])
  const rows = [8, 0, 3, 4, 5]
  assert.deepEqual(columnOf(set, 'x', rows), ['float32', [5, 3], rows.flatMap((i) => [i, i + 0.5, -i])])
  assert.deepEqual(columnOf(set, 'ids', rows), ['int32', [5, 1, 2], rows.flatMap((i) => [i, 7])])
  assert.deepEqual(columnOf(set, 'score', rows), ['float32', [5], rows.map((i) => i / 4)])
  assert.deepEqual(columnOf(set, 'whole', rows), ['int64', [5, 2], rows.flatMap((i) => [i, 2 * i])])
  assert.deepEqual(columnOf(set, 'deep', rows), ['int64', [5, 2, 1], rows.flatMap((i) => [i, 1])])
  assert.deepEqual(columnOf(set, 'flag', rows), ['int64', [5], rows.map((i) => (i % 2 === 0 ? 1 : 0))])
  assert.deepEqual(set.columns.map((c) => c.name).sort(), ['deep', 'flag', 'ids', 'labels', 'score', 'whole', 'x'])
  assert.match(set.notes.join(), /serves as both splits: no shard has train or test in its name/)
})

const hasTar = spawnSync('tar', ['--version'], { encoding: 'utf8' }).stdout?.includes('GNU tar')

test('archives of GNU tar: long names, links and folders', {
  skip: hasTar ? false : 'there is no GNU tar',
}, async () => {
  const long = `${'deep/'.repeat(30)}${'n'.repeat(120)}`
  const at = folder({ [`${long}.cls`]: '1', [`${long}.x.bin`]: 'content', 'short.cls': '2' })
  spawnSync('ln', ['-s', 'short.cls', join(at, 'link.cls')])
  for (const format of ['gnu', 'pax', 'ustar', 'oldgnu']) {
    const file = join(scratch, `${format}.tar`)
    const names =
      format === 'ustar'
        ? ['short.cls', 'link.cls']
        : [`${long}.cls`, `${long}.x.bin`, 'short.cls', 'link.cls', 'deep/deep']
    assert.equal(
      spawnSync('tar', ['-C', at, '-c', `--format=${format}`, '-f', file, '--no-recursion', ...names]).status,
      0,
    )
    const wanted = names.filter((n) => n !== 'link.cls' && n !== 'deep/deep')
    assert.deepEqual(
      Array.from(tarMembers(await archiveOf(file)), (m) => m.name),
      wanted,
      format,
    )
  }
})

test('what is wrong is said with the shard and the sample', { skip }, async () => {
  const p = picture(1)
  const x = (values: number[]): Buffer => npy(Float32Array.from(values), [values.length])
  const cases: readonly [string, Members, RegExp][] = [
    [
      'a picture is missing',
      [
        ['a.png', p],
        ['b.cls', '1'],
      ],
      /'b' has not got a picture/,
    ],
    [
      'a class is missing',
      [
        ['a.png', p],
        ['a.cls', '1'],
        ['b.png', p],
      ],
      /'b' has not got a class/,
    ],
    [
      'a class too many',
      [
        ['a.png', p],
        ['b.png', p],
        ['b.cls', '1'],
      ],
      /'b' has a class, which the first sample has not/,
    ],
    [
      'no number',
      [
        ['a.png', p],
        ['a.cls', 'cat'],
      ],
      /'a\.cls' is cat; a label is a whole number/,
    ],
    [
      'two pictures',
      [
        ['a.png', p],
        ['a.jpg', p],
      ],
      /'a' has two pictures/,
    ],
    [
      'twice',
      [
        ['a.cls', '1'],
        ['a.cls', '1'],
      ],
      /'a\.cls' is there twice/,
    ],
    ['no picture', [['a.png', 'text']], /'a\.png' is not a readable image/],
    [
      'shapes',
      [
        ['a.x.npy', x([1, 2])],
        ['b.x.npy', x([1])],
      ],
      /'b\.x\.npy' is float32\[1\], and float32\[2\] in the first/,
    ],
    [
      'an array is missing',
      [
        ['a.x.npy', x([1])],
        ['b.cls', '1'],
      ],
      /'b' has/,
    ],
    ['no json', [['a.json', '{']], /'a' has a \.json that is none/],
    [
      'other lists',
      [
        ['a.json', '{"v":[1]}'],
        ['b.json', '{"v":[1,2]}'],
      ],
      /'b' has another 'v' than the first sample/,
    ],
    [
      'a field is missing',
      [
        ['a.json', '{"v":1}'],
        ['b.json', '{}'],
      ],
      /'b' has no 'v'/,
    ],
    ['nothing', [['readme', 'x']], /there are no samples in it/],
    ['nothing to read', [['a.txt', 'x']], /'a' has neither a picture nor arrays/],
  ]
  for (const [what, members, reason] of cases) {
    const at = folder({ 'bad.tar': tar(members) })
    const opened = openDataset(`tar:${at}`, 'train')
    await assert.rejects(opened, (e: Error) => reason.test(e.message) && /bad\.tar/.test(e.message), what)
  }
  const good = tar([
    ['a.x.npy', x([1, 2])],
    ['a.cls', '1'],
  ])
  for (const [bytes, reason] of [
    [Buffer.alloc(0), /it is empty/],
    [Buffer.from([0x1f, 0x8b, 8, 0]), /it is compressed, and damaged: unexpected end of file/],
    [gzipSync(good).fill(7, 30, 40), /it is compressed, and damaged/],
    [gzipSync(good.subarray(0, 700)), /truncated/],
    [gzipSync(Buffer.alloc(0)), /it is empty/],
    [Buffer.from('hello'), /it is truncated/],
    [good.subarray(0, good.length - 1024), /the blocks of zeros at its end are missing/],
    [good.subarray(0, 700), /truncated/],
  ] as const)
    await assert.rejects(
      arrays(folder({ 'bad.tar': bytes })),
      (e: Error) => reason.test(e.message) && /bad\.tar/.test(e.message),
    )
  await assert.rejects(openDataset(`tar:${join(scratch, 'none')}`, 'train'), /there is no file or folder/)
  await assert.rejects(openDataset(`tar:${folder({ 'train-0.tar': good })}`, 'test'), /has no shards of the test split/)
  // a flipped bit: an error that names the file, or other numbers
  for (let at = 0; at < good.length; at += 7) {
    const bad = Buffer.from(good)
    bad[at]! ^= 1 << (at % 8)
    await arrays(folder({ 'bad.tar': bad })).catch((e: unknown) => {
      assert.ok(e instanceof MncError && e.blame === 'user', `byte ${at}: ${e instanceof Error ? e.stack : e}`)
      assert.match(e.message, /bad\.tar/)
    })
  }
})

test('compressed shards, beside plain ones: the same arrays, pictures and splits', { skip }, async () => {
  const sample = (i: number): Members => [
    [`${i}.x.npy`, npy(Float32Array.of(i, -i), [2])],
    [`${i}.cls`, String(i % 3)],
  ]
  const shards = [0, 3, 6].map((first) => tar([0, 1, 2].flatMap((k) => sample(first + k))))
  const plain = await arrays(folder({ '0.tar': shards[0]!, '1.tar': shards[1]!, '2.tar': shards[2]! }))
  const packed = await arrays(
    folder({ '0.tar.gz': gzipSync(shards[0]!), '1.tar': shards[1]!, '2.tgz': gzipSync(shards[2]!) }),
  )
  assert.equal(packed.contentHash(), plain.contentHash())
  const order = [8, 0, 4, 7]
  assert.deepEqual(columnOf(packed, 'x', order), columnOf(plain, 'x', order))
  const pictures = (from: number): Buffer =>
    tar([0, 1].flatMap((k) => [[`${k}.png`, picture(from + k)] as const, [`${k}.cls`, String(k)] as const]))
  const at = folder({ 'train-0.tar.gz': gzipSync(pictures(3)), 'val-0.tar.gz': gzipSync(pictures(90)) })
  const values = async (split: 'train' | 'test'): Promise<number[]> => {
    const set = await openDataset(`tar:${at}`, split)
    assert.ok(!(set instanceof ArraySet))
    const own = await inMemory(set)
    return [own.image(0)[0]!, own.image(1)[0]!]
  }
  assert.deepEqual(
    [await values('train'), await values('test')],
    [
      [3, 4],
      [90, 91],
    ],
  )
  const hash = async (): Promise<string> => (await openDataset(`tar:${at}`, 'train')).contentHash()
  assert.equal(await hash(), await hash())
  // another file of the same name is unpacked anew
  writeFileSync(join(at, 'train-0.tar.gz'), gzipSync(pictures(40)))
  assert.deepEqual(await values('train'), [40, 41])
})

for (const zip of [false, true])
  test(`memory does not grow with what is in ${zip ? 'compressed ' : ''}shards`, { timeout: 120_000 }, () => {
    const script = `
    import { openDataset } from './src/data/index.ts'
    const set = await openDataset('tar:' + process.argv[1], 'train')
    let sum = 0
    for (let i = 0; i < set.size; i++) {
      sum += set.read(set.columns[0], [i]).toNumbers()[0]
      if (i % 50 === 0) gc()
    }
    console.log(sum)
  `
    const measure = (samples: number): number => {
      const array = npy(new Float32Array(25_000).fill(1), [25_000])
      const path = join(scratch, `${samples}.tar`)
      const shard = tar(Array.from({ length: samples }, (_, i) => [`${i}.x.npy`, array] as const))
      writeFileSync(path, zip ? gzipSync(shard, { level: 1 }) : shard)
      const { output, peak } = peakOf(script, path)
      assert.equal(output, String(samples))
      return peak
    }
    const [few, many] = [measure(100), measure(1000)]
    assert.ok(many < few + 40, `${few.toFixed(0)} MB of memory for 10 MB, ${many.toFixed(0)} MB for 100 MB`)
  })
