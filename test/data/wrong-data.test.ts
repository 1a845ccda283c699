/**
 * What is wrong with data, on every source: it is said in one message that names the file, before the first step of training and before
 * the first sample is measured, and nothing is written.
 */
import assert from 'node:assert/strict'
import { existsSync, mkdirSync, mkdtempSync, readdirSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import test, { after, before } from 'node:test'
import { writeModel } from '../../src/codec/codec.ts'
import { encodeProto } from '../../src/codec/proto.ts'
import { parseModel } from '../../src/codec/text-parse.ts'
import { mnc } from '../cli/run-mnc.ts'
import { npy, npz, png, tar, wav } from '../support/data-files.ts'
import { type ParquetColumn, type ParquetPictures, parquetFile } from '../support/parquet-file.ts'

const noSharp = (await import('sharp').catch(() => null)) ? false : 'the optional decoder sharp is not installed'
const scratch = mkdtempSync(join(tmpdir(), 'mnc-wrong-'))
after(() => rmSync(scratch, { recursive: true }))
const at = (name: string): string => join(scratch, name)

const WIDTH = 6
const COUNT = 8
const CLASSES = ['ant', 'bee', 'cat']

/** Features to scores of three classes, ids to theirs by a table of five rows, pictures and sound likewise. */
const head = `onnx {ir_version=10}
opset ai.onnx=21
graph "g"
`
const weights = (n: number): string => Array.from({ length: n }, (_, i) => (Math.sin(i) / 2).toFixed(3)).join(', ')
const models = {
  features: `${head}  input %x : float32[N,${WIDTH}]
  init %w = float32[${WIDTH},3] [${weights(3 * WIDTH)}]
  %scores : float32[N,3] = MatMul(%x, %w) #name "fc"
  output %scores
end
`,
  ids: `${head}  input %x : int64[N,${WIDTH}]
  init %table = float32[5,4] [${weights(20)}]
  init %axes = int64[1] [1]
  init %w = float32[4,3] [${weights(12)}]
  %e = Gather(%table, %x)
  %m = ReduceMean(%e, %axes) {keepdims=0}
  %scores : float32[N,3] = MatMul(%m, %w) #name "fc"
  output %scores
end
`,
  pictures: `${head}  input %image : float32[N,3,4,4]
  init %axes = int64[2] [2, 3]
  init %w = float32[3,3] [${weights(9)}]
  %m = ReduceMean(%image, %axes) {keepdims=0}
  %scores : float32[N,3] = MatMul(%m, %w) #name "fc"
  output %scores
end
`,
  sound: `${head}  input %audio : float32[N,1,${WIDTH}]
  init %w = float32[${WIDTH},3] [${weights(3 * WIDTH)}]
  init %flat = int64[2] [-1, ${WIDTH}]
  %r = Reshape(%audio, %flat)
  %scores : float32[N,3] = MatMul(%r, %w) #name "fc"
  output %scores
end
`,
}
before(async () => {
  for (const [name, text] of Object.entries(models)) {
    const model = parseModel(text)
    model.metadata.set('mnc.classes', JSON.stringify(CLASSES))
    if (name === 'sound') model.metadata.set('mnc.sample-rate', '8000')
    await writeModel(model, at(`${name}.onnx`))
  }
})

interface Arrays {
  /** By sample. */
  readonly x: readonly (readonly number[])[]
  readonly isFloat: boolean
  readonly labels: readonly number[]
}
interface Splits {
  readonly train: Arrays
  readonly test: Arrays | null
}

/** Writes splits as a source; returns its reference. */
type Write = (splits: Splits) => string

let sets = 0
function files(of: Readonly<Record<string, Uint8Array | string>>): string {
  const folder = at(String(sets++))
  mkdirSync(folder)
  for (const [name, content] of Object.entries(of)) {
    mkdirSync(dirname(join(folder, name)), { recursive: true })
    writeFileSync(join(folder, name), content)
  }
  return folder
}

const numbers = ({ x, isFloat }: Arrays): Float32Array | BigInt64Array =>
  isFloat ? Float32Array.from(x.flat()) : BigInt64Array.from(x.flat(), BigInt)
const npyOf = (a: Arrays): Buffer => npy(numbers(a), [a.x.length, a.x[0]?.length ?? WIDTH])
const labelsOf = ({ labels }: Arrays): Buffer => npy(BigInt64Array.from(labels, BigInt), [labels.length])
const both = (s: Splits): [string, Arrays][] => [
  ['train', s.train],
  ...(s.test ? [['test', s.test] as [string, Arrays]] : []),
]
const columns = ({ x, isFloat, labels }: Arrays): ParquetColumn[] => [
  { name: 'x', type: isFloat ? 'FLOAT' : 'INT64', rows: x },
  { name: 'labels', type: 'INT64', rows: labels },
]
const shard = (a: Arrays): Buffer =>
  tar(
    a.x.flatMap((_, i) => [
      [`${i}.x.npy`, npy(numbers({ ...a, x: [a.x[i]!] }), [a.x[i]!.length])] as const,
      [`${i}.cls`, String(a.labels[i])] as const,
    ]),
  )

const arraySources: Readonly<Record<string, Write>> = {
  npz: (s) => {
    const arrays = both(s).flatMap(([name, a]) => [
      [`${name}_x`, npyOf(a)] as const,
      [`${name}_labels`, labelsOf(a)] as const,
    ])
    return `npz:${join(files({ 'set.npz': npz(Object.fromEntries(arrays)) }), 'set.npz')}`
  },
  npy: (s) =>
    `npy:${files(
      Object.fromEntries(
        both(s).flatMap(([name, a]) => [
          [`${name}/x.npy`, npyOf(a)],
          [`${name}/labels.npy`, labelsOf(a)],
        ]),
      ),
    )}`,
  parquet: (s) =>
    `parquet:${files(Object.fromEntries(both(s).map(([name, a]) => [`${name}.parquet`, parquetFile(columns(a), 5)])))}`,
  tar: (s) => `tar:${files(Object.fromEntries(both(s).map(([name, a]) => [`${name}-0.tar`, shard(a)])))}`,
}

const good = (isFloat = true, count = COUNT): Arrays => ({
  x: Array.from({ length: count }, (_, i) =>
    Array.from({ length: WIDTH }, (_, k) => (isFloat ? Math.cos(i + k) : (i + k) % 5)),
  ),
  isFloat,
  labels: Array.from({ length: count }, (_, i) => i % 3),
})
const changed = (row: number, to: (values: readonly number[]) => readonly number[], isFloat = true): Arrays => {
  const own = good(isFloat)
  return { ...own, x: own.x.map((r, i) => (i === row ? to(r) : r)) }
}

type Net = keyof typeof models
const train = (net: Net, data: string, ...more: string[]) =>
  mnc('train', at(`${net}.onnx`), '--data', data, '--max-steps', '2', '--batch', '4', '-o', at('out.onnx'), ...more)
const evaluate = (net: Net, data: string, ...more: string[]) => mnc('eval', at(`${net}.onnx`), '--data', data, ...more)

/** One message, and nothing done. */
function refused({ code, err, out }: Awaited<ReturnType<typeof mnc>>, reason: RegExp): void {
  const lines = err.trim().split('\n')
  assert.equal(code, 2, err)
  assert.match(lines.at(-1)!, /^mnc: /, err)
  assert.match(lines.at(-1)!, reason)
  // notes on the data, and no word of steps
  for (const line of lines.slice(0, -1)) assert.match(line, /^(note: |data: )/, err)
  assert.equal(out, '')
  assert.ok(!existsSync(at('out.onnx')))
}

/** Done, and said before. */
function noted({ code, err }: Awaited<ReturnType<typeof mnc>>, note: RegExp): void {
  assert.equal(code, 0, err)
  const [said, begun] = [err.search(note), err.search(/steps \(|^data: /m)]
  assert.ok(said >= 0 && begun > said, err)
  rmSync(at('out.onnx'), { force: true })
}

const relabelled = (to: (label: number) => number): Arrays => ({ ...good(), labels: good().labels.map(to) })
/** What holds a split of a source. */
const holder = (name: string, split: string, what = 'x'): string =>
  name === 'npz' ? 'set\\.npz' : name === 'npy' ? `${split}/${what}\\.npy` : `${split}(-0)?\\.(tar|parquet)`

for (const [name, write] of Object.entries(arraySources))
  test(`arrays of ${name}`, async () => {
    const sound = { train: good(), test: good() }
    assert.equal((await train('features', write(sound))).code, 0)
    assert.equal((await evaluate('features', write(sound))).code, 0)
    rmSync(at('out.onnx'))
    const [own, other] = ['train', 'test'].map((split) => holder(name, split)) as [string, string]
    const narrow = { ...good(), x: good().x.map((r) => r.slice(1)) }
    const nan = changed(5, (r) => [...r.slice(1), Number.NaN])
    const infinite = changed(5, (r) => [...r.slice(1), Number.POSITIVE_INFINITY])
    const far = changed(6, (r) => [...r.slice(1), 7], false)
    const ids = good(false)
    const beyond = relabelled((l) => (l === 2 ? 3 : l))
    const shape = "'x' has the shape \\[samples, 5\\], but input 'x' takes \\[N, 6\\]"
    const cases: [Net, Splits, 'train' | 'eval', string][] = [
      ['features', { train: narrow, test: good() }, 'train', `${own}: ${shape}`],
      ['features', { train: good(), test: narrow }, 'eval', `${other}: ${shape}`],
      ['ids', sound, 'train', `${own}: 'x' is float32, but input 'x' takes int64`],
      ['features', { train: nan, test: good() }, 'train', `${own}: 'x' is NaN in sample 5`],
      ['features', { train: good(), test: infinite }, 'eval', `${other}: 'x' is Infinity in sample 5`],
      ['ids', { train: far, test: ids }, 'train', `${own}: 'x' is 7 in sample 6, but input 'x' takes -5 to 4`],
      ['ids', { train: ids, test: far }, 'eval', `${other}: 'x' is 7 in sample 6`],
      [
        'features',
        { train: beyond, test: good() },
        'train',
        `${name}:.* has labels up to 3, .*names 3 classes, 0 to 2`,
      ],
      ['features', { train: good(), test: beyond }, 'eval', `${name}:.* has labels up to 3, .*names 3 classes, 0 to 2`],
      [
        'features',
        { train: relabelled((l) => l - 1), test: good() },
        'train',
        `${name}.* is -1; a label is a whole number`,
      ],
      ['features', { train: good(), test: null }, 'eval', `${name}:.* has no .*test split`],
    ]
    // each file of Parquet that is read is a process of its own: what no reader has a part in is left to the others
    const some = name === 'parquet' ? [cases[0]!, cases[4]!, ...cases.slice(-2)] : cases
    for (const [net, splits, command, reason] of some)
      refused(
        await (command === 'train' ? train : evaluate)(net, write(splits)),
        new RegExp(reason.replace(`${name}.* is -1`, '.* is -1')),
      )
    noted(
      await train('features', write({ train: relabelled((l) => l % 2), test: good() })),
      /note: .*: only the test split has samples of class 2/,
    )
    if (name !== 'tar')
      refused(await train('features', write({ train: good(true, 0), test: good() })), /no samples|no rows/)
    const place = write(sound).slice(name.length + 1)
    const inside = statSync(place).isDirectory() ? readdirSync(place, { recursive: true, encoding: 'utf8' }) : null
    for (const file of inside?.filter((f) => /train.*\./.test(f)).map((f) => join(place, f)) ?? [place])
      writeFileSync(file, '')
    refused(await train('features', `${name}:${place}`), new RegExp(`${holder(name, 'train', '\\w+')}: .*is empty`))
    refused(await train('features', `${name}:${at('nowhere')}`), /there is no (file|folder|file or folder) '.*nowhere'/)
  })

const tree = (split: string, names: readonly string[], end: string, make: (i: number) => Uint8Array | string) =>
  Object.fromEntries(names.flatMap((c) => [0, 1, 2, 3].map((i) => [`${split}/${c}/${i}.${end}`, make(i)] as const)))
const picture = (v: number, channels = 3): Buffer => png(4, 4, channels, new Uint8Array(16 * channels).fill(v))
const pixels = ['--mean', '0.5,0.5,0.5', '--std', '0.5,0.5,0.5']
const OTHERS = ['dog', 'elk', 'fly']

type Files = Readonly<Record<string, Uint8Array | string>>
type Case = readonly [what: 'train' | 'eval', of: Files, reason: RegExp]

interface FolderSource {
  readonly net: Net
  readonly end: string
  readonly make: (i: number) => Uint8Array
  readonly more: readonly string[]
  readonly skip: false | string
}

const folders: Readonly<Record<string, FolderSource>> = {
  folder: { net: 'pictures', end: 'png', make: (i: number) => picture(40 * i), more: pixels, skip: noSharp },
  wav: {
    ...{ net: 'sound', end: 'wav', more: [], skip: false },
    make: (i: number) => wav([Array.from({ length: WIDTH }, (_, k) => 100 * i + k)]),
  },
}

for (const [kind, { net, end, make, more, skip }] of Object.entries(folders))
  test(`folders of ${kind}`, { skip }, async () => {
    const both = (names: readonly string[], made: (i: number) => Uint8Array = make): Files => ({
      ...tree('train', names, end, made),
      ...tree('test', names, end, made),
    })
    const sound = both(CLASSES)
    const file = `train/ant/2.${end}`
    const cases: Case[] = [
      ['train', { ...sound, [file]: 'text' }, new RegExp(`${file}(:| is) .*(not a readable image|not a WAV file)`)],
      ['train', { ...sound, [file]: '' }, new RegExp(`${file}:? .*is empty`)],
      [
        'eval',
        { ...sound, [file.replace('train', 'test')]: make(2).subarray(0, kind === 'wav' ? 50 : 40) },
        /test\/ant\/2\.\w+(:| is) .*(truncated|not a readable)/,
      ],
      [
        'train',
        { ...tree('train', CLASSES.slice(1), end, make), ...tree('test', CLASSES, end, make) },
        /\/test has classes that .*\/train lacks: 'ant'/,
      ],
      [
        'train',
        both(OTHERS),
        /#train has classes that the model does not name: 'dog', 'elk', 'fly'; it names 'ant', 'bee', 'cat'/,
      ],
      ['eval', tree('train', CLASSES, end, make), /lacks the folder of the test split/],
      [
        'eval',
        { ...tree('train', CLASSES, end, make), 'test/ant/.keep': '' },
        /no .* files in sub-folders of '.*\/test'|where|lacks/,
      ],
      ['eval', { x: '' }, /no .* files in sub-folders of /],
    ]
    if (kind === 'folder')
      cases.push([
        'train',
        both(CLASSES, (i) => picture(9 * i, 1)),
        /#train has images with 1 channel\(s\), but input 'image' takes 3/,
      ])
    else {
      const long = (i: number) => wav([Array.from({ length: WIDTH + 3 }, (_, k) => 100 * i + k)])
      const fast = (i: number) => wav([Array.from({ length: WIDTH }, () => i)], { rate: 16_000 })
      const nan = wav([[0, 1, Number.NaN, 0, 0, 0]], { bits: '32f' })
      cases.push(
        ['train', both(CLASSES, long), /'audio' has the shape \[samples, 9\], but input 'audio' takes \[N, 1, 6\]/],
        ['train', both(CLASSES, fast), /#train is at 16000 Hz, but the model takes sound at 8000 Hz/],
        ['train', { ...sound, [file]: wav([[]]) }, /train\/ant\/2\.wav: there is no sound in it/],
        ['train', { ...sound, [file]: nan }, /train\/ant\/2\.wav: 'audio' is NaN in sample 6/],
      )
    }
    const run = (what: 'train' | 'eval', of: Files) =>
      (what === 'train' ? train : evaluate)(net, `${kind}:${files(of)}`, ...more)
    assert.equal((await run('train', sound)).code, 0)
    rmSync(at('out.onnx'))
    for (const [what, of, reason] of cases) refused(await run(what, of), reason)
    // names in another order than the model's outputs are brought into that order, whatever they are called in the folder
    const turned = await run('eval', both([...CLASSES].reverse()))
    assert.match(turned.err, /0 ant, 1 bee, 2 cat/)
  })

test('test data of a model', async () => {
  const proto = (name: string, dims: readonly number[], values: Float32Array | BigInt64Array): Uint8Array => {
    const bytes = new Uint8Array(values.buffer)
    const data_type = values instanceof Float32Array ? 1 : 7
    return encodeProto('TensorProto', { name, dims: dims.map(BigInt), data_type, raw_data: bytes })
  }
  const x = (width = WIDTH, fill = 1) =>
    proto(
      'x',
      [2, width],
      Float32Array.from({ length: 2 * width }, (_, i) => fill * (i + 1)),
    )
  const scores = (rows: number, width: number) => proto('scores', [rows, width], new Float32Array(rows * width))
  const input = 'test_data_set_0/input_0.pb'
  const sound = { [input]: x(), 'test_data_set_0/output_0.pb': scores(2, 3) }
  const run = (of: Files, net: Net) => evaluate(net, `onnx:${files(of)}`, '--metric', 'mse')
  assert.equal((await run(sound, 'features')).code, 0)
  const far = proto('x', [2, WIDTH], new BigInt64Array(2 * WIDTH).fill(9n))
  const cases: readonly [Net, Files, RegExp][] = [
    [
      'features',
      { ...sound, [input]: x(5) },
      /input_0\.pb: 'x' has the shape \[samples, 5\], but input 'x' takes \[N, 6\]/,
    ],
    [
      'features',
      { ...sound, 'test_data_set_0/output_0.pb': scores(2, 4) },
      /output_0\.pb: .*returns 3 numbers per sample and 4 are wanted/,
    ],
    ['ids', sound, /input_0\.pb: 'x' is float32, but input 'x' takes int64/],
    ['features', { ...sound, [input]: x(WIDTH, Number.NaN) }, /input_0\.pb: 'x' is NaN in sample 0/],
    ['ids', { ...sound, [input]: far }, /input_0\.pb: 'x' is 9 in sample 0, but input 'x' takes -5 to 4/],
    ['features', { ...sound, [input]: '' }, /input_0\.pb: it is empty/],
    ['features', { ...sound, [input]: 'text' }, /input_0\.pb: /],
    ['features', { ...sound, 'test_data_set_1/input_0.pb': x() }, /test_data_set_1 has 1 tensors, the first set 2/],
    ['features', { x: '' }, /has no folders test_data_set_0/],
  ]
  for (const [net, of, reason] of cases) refused(await run(of, net), reason)
})

const LABELS = [0, 1, 2, 0, 1, 2, 0, 1]
type Make = (labels: readonly number[], made?: (i: number) => Uint8Array, names?: readonly string[]) => Buffer
const shardOf: Make = (labels, made = (i) => picture(20 * i)) =>
  tar(labels.flatMap((l, i) => [[`${i}.png`, made(i)] as const, [`${i}.cls`, String(l)] as const]))
const parquetOf: Make = (labels, made = (i) => picture(20 * i), names = []) => {
  const rows = labels.map((_, i) => ({ bytes: made(i), path: `${i}.png` }))
  const pictures: ParquetPictures = { name: 'image', type: 'PICTURE', rows }
  const note = { huggingface: JSON.stringify({ info: { features: { label: { names } } } }) }
  return parquetFile([pictures, { name: 'label', type: 'INT64', rows: labels }], 3, false, names.length > 0 ? note : {})
}

for (const [kind, make] of Object.entries({ tar: shardOf, parquet: parquetOf }))
  test(`pictures in ${kind}`, { skip: noSharp }, async () => {
    const run = (what: 'train' | 'eval', own: Uint8Array, other: Uint8Array | null = make(LABELS)) => {
      const place = files({ [`train.${kind}`]: own, ...(other && { [`test.${kind}`]: other }) })
      return (what === 'train' ? train : evaluate)('pictures', `${kind}:${place}`, ...pixels)
    }
    assert.equal((await run('train', make(LABELS))).code, 0)
    rmSync(at('out.onnx'))
    const third = (bytes: Uint8Array) => make(LABELS, (i) => (i === 3 ? bytes : picture(i)))
    const grey = make(LABELS, (i) => picture(9 * i, 1))
    refused(await run('train', grey, grey), /#train has images with 1 channel\(s\), but input 'image' takes 3/)
    refused(await run('train', third(Buffer.from('text'))), /train\.\w+: '3\.png' is not a readable image/)
    refused(await run('train', third(Buffer.alloc(0))), /train\.\w+: '3\.png' is empty/)
    refused(await run('train', make(LABELS.map((l) => l + 1))), /has labels up to 3, .*names 3 classes, 0 to 2/)
    refused(await run('eval', make(LABELS), null), /has no (shards|files) of the test split/)
    refused(await run('eval', make(LABELS), Buffer.alloc(0)), /test\.\w+: it is empty/)
    noted(await run('train', make(LABELS.map((l) => l % 2))), /note: .*: only the test split has samples of class 2/)
    if (kind !== 'parquet') return
    const named = (names: readonly string[]): Buffer => make(LABELS, undefined, names)
    refused(await run('eval', named(OTHERS), named(OTHERS)), /does not name: 'dog', 'elk', 'fly'/)
    const turned = await run('eval', named([...CLASSES].reverse()), named([...CLASSES].reverse()))
    assert.match(turned.err, /0 ant, 1 bee, 2 cat/)
  })

test('a recipe looks at both splits of all stages before the first one', async () => {
  const npzSource = arraySources.npz!
  const stages = [
    { name: 'trained', from: at('features.onnx'), train: { 'max-steps': 2, batch: 4, workers: 0 } },
    { name: 'again', from: 'trained', train: { 'max-steps': 2, batch: 4, workers: 0 } },
  ]
  const run = async (splits: Splits) => {
    writeFileSync(at('recipe.json'), JSON.stringify({ name: 'r', data: npzSource(splits), stages }))
    const result = await mnc('run', at('recipe.json'), '--workdir', at('work'))
    const made = existsSync(at('work/trained.onnx'))
    rmSync(at('work'), { recursive: true, force: true })
    return { ...result, made }
  }
  assert.ok((await run({ train: good(), test: good() })).made)
  const narrow = { ...good(), x: good().x.map((r) => r.slice(1)) }
  const nan = changed(5, (r) => [...r.slice(1), Number.NaN])
  for (const [splits, reason] of [
    [{ train: good(), test: narrow }, /set\.npz: 'x' has the shape \[samples, 5\]/],
    [{ train: good(), test: nan }, /set\.npz: 'x' is NaN in sample 5/],
    [{ train: good(), test: relabelled((l) => l + 1) }, /has labels up to 3/],
    [{ train: good(), test: null }, /has no arrays of the test split/],
  ] as const) {
    const { code, err, made } = await run(splits)
    assert.equal(code, 2, err)
    assert.match(err, reason)
    assert.ok(!made && !err.includes('[1/2]'), err)
  }
})
