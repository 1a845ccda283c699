/** Shares of a job: joined they give what a single run gives, to the byte, and nothing else is joined. */
import assert from 'node:assert/strict'
import { spawn, spawnSync } from 'node:child_process'
import { existsSync, readdirSync, readFileSync, writeFileSync } from 'node:fs'
import { dirname } from 'node:path'
import test from 'node:test'
import fc from 'fast-check'
import { writeModel } from '../../src/codec/codec.ts'
import { buildNetwork } from '../../src/models/spec.ts'
import { runPass } from '../../src/passes/run-pass.ts'
import { fromWords, packRows, toWords, unpackRows } from '../../src/shards/numbers.ts'
import { rangeOf } from '../../src/shards/shard.ts'
import { mnc } from '../cli/run-mnc.ts'
import { mnc as built, run } from '../support/mpi.ts'
import { scratch } from '../train/fixtures.ts'

const at = scratch()
const bytesOf = (name: string): string => readFileSync(at(name), 'utf8')

/** A network, and what pruning and quantising make of it. */
async function networks(seed: number, name: string): Promise<void> {
  const model = buildNetwork({ family: 'lenet', size: 12, mean: [0.286], std: [0.353] }, { seed })
  await writeModel(model, at(`${name}.onnx`))
  await runPass(model, 'prune', { sparsity: 0.6 })
  await runPass(model, 'quantize', { weightBits: 3, activationBits: 0 })
  await writeModel(model, at(`${name}.small.onnx`))
}
await networks(1, 'net')
await networks(2, 'other')

const data = ['--data', 'embedded', '--limit', '130', '--threads', '1']
/** 5 batches, of which the last is not full. */
const evaluated = ['eval', at('net.small.onnx'), ...data, '--batch', '30', '--metric', 'accuracy,confusion,mse']
const reference = ['--reference', at('net.onnx')]
const checked = ['check', at('net.onnx'), at('net.small.onnx'), ...data, '--batch', '30', '--metric', 'f1,cosine']
const scanned = [
  'sensitivity',
  at('net.onnx'),
  ...data,
  '--metric',
  'loss',
  '--sparsity',
  '0.5,0.9',
  '--weight-bits',
  '2',
]

const ok = async (...words: readonly string[]): Promise<string> => {
  const { code, out, err } = await mnc(...words, '--json')
  assert.equal(code, 0, err)
  return out
}

/** Files of all shares, the last first. */
async function shares(words: readonly string[], of: number, tag: string): Promise<string[]> {
  const files: string[] = []
  for (let i = of; i >= 1; i--) {
    const file = at(`${tag}.${i}-of-${of}.json`)
    await ok(...words, '--shard', `${i}/${of}`, '--part', file)
    files.push(file)
  }
  return files
}

/** How fast samples ran differs from run to run. */
const withoutSpeed = (text: string): string => text.replace(/"imagesPerSecond": [\d.e+]+/, '')

test('eval: shares of any number give the figures of a single run', async () => {
  const single = await ok(...evaluated, ...reference)
  for (const of of [1, 3, 7]) {
    const files = await shares([...evaluated, ...reference], of, 'eval')
    assert.equal(withoutSpeed(await ok('merge', ...files)), withoutSpeed(single), `${of} shares`)
  }
  assert.equal(JSON.parse(single).samples, 130)
})

test('check: shares give the document of a single run, and its gates', async () => {
  const single = await ok(...checked)
  assert.equal(await ok('merge', ...(await shares(checked, 4, 'check'))), single)
  const gated = [...checked.with(2, at('other.onnx')), '--max-change', '0.0001']
  const files = await shares(gated, 2, 'gated')
  const [whole, joined] = [await mnc(...gated), await mnc('merge', ...files)]
  assert.equal(whole.code, 3)
  assert.deepEqual(joined, { ...whole, err: joined.err })
  assert.match(joined.err, /--max-change/)
})

test('sensitivity: shares give the files of a single run', async () => {
  await ok(...scanned, '-o', at('single.json'))
  const files = await shares(scanned, 3, 'scan')
  await ok('merge', ...files, '-o', at('joined.json'))
  assert.equal(bytesOf('joined.json'), bytesOf('single.json'))
  assert.equal(bytesOf('joined.svg'), bytesOf('single.svg'))
})

test('--jobs shares the work among processes, and leaves no files of shares', async () => {
  await ok(...scanned, '-o', at('single.json'))
  const { code: ended, err: said } = await run([...built, ...scanned, '--jobs', '2', '-o', at('jobs.json')])
  assert.equal(ended, 0, said)
  assert.equal(bytesOf('jobs.json'), bytesOf('single.json'))
  assert.ok(!existsSync(at('net.sensitivity.1-of-2.json')))
  const { code, err } = await run([
    ...built,
    'eval',
    at('net.onnx'),
    '--data',
    'embedded',
    '--metric',
    'mse',
    '--jobs',
    '2',
  ])
  assert.equal(code, 2)
  assert.match(err, /--metric mse compares outputs with numbers/)
})

test('check --jobs with metrics: the document of a single run, its gates, and its refusals', async () => {
  const shared = (words: readonly string[]) => {
    const [program = '', ...more] = [...built, ...words, '--jobs', '2', '--json']
    return spawnSync(program, more, { encoding: 'utf8' })
  }
  const single = await ok(...checked)
  const { status, stdout, stderr } = shared(checked)
  assert.equal(status, 0, stderr)
  assert.equal(stdout, single)
  assert.deepEqual(Object.keys(JSON.parse(single).metrics), ['f1', 'cosine'])
  const gated = [...checked.with(2, at('other.onnx')), '--max-worse', '0.001']
  const [whole, joined] = [await mnc(...gated, '--json'), shared(gated)]
  assert.deepEqual([joined.status, joined.stdout], [3, whole.out])
  for (const said of [whole.err, joined.stderr])
    assert.match(said, /other\.onnx: \w+ is \S+, and the reference's \S+: worse by \S+, more than --max-worse 0\.001/)
  const refused = shared([...checked.slice(0, -1), 'f2'])
  assert.equal(refused.status, 2)
  assert.match(JSON.parse(refused.stdout).error.message, /there is no metric 'f2'/)
  assert.deepEqual(
    readdirSync(dirname(at('net.onnx'))).filter((f) => /\.check\.\w+\.\d-of-/.test(f)),
    [],
  )
})

test('--jobs leaves alone the shares of other jobs and files that are no scan; flags go before --', async () => {
  const own = at('net.small.eval.1-of-2.json')
  writeFileSync(own, 'mine')
  const words = ['eval', ...data, '--jobs', '2', '--', at('net.small.onnx')]
  const { code, err } = await run([...built, ...words])
  assert.equal(code, 0, err)
  assert.equal(readFileSync(own, 'utf8'), 'mine')
  writeFileSync(at('notes.json'), '{}')
  for (const more of [[], ['--jobs', '2']]) {
    const refused = await run([...built, ...scanned, ...more, '-o', at('notes.json')])
    assert.equal(refused.code, 2)
    assert.match(refused.err, /contains no sensitivity scan/)
  }
  const files = await shares(scanned, 2, 'kept')
  assert.match((await mnc('merge', ...files, '-o', at('notes.json'))).err, /contains no sensitivity scan/)
  assert.equal(bytesOf('notes.json'), '{}')
})

test('processes that share the work end with the one that began them, however that ends', async () => {
  const words = [...scanned.slice(0, -4), '--sparsity', '0.1,0.2,0.3,0.4,0.5,0.6,0.7,0.8', '--limit', '2000']
  const parent = spawn(built[0]!, [...built.slice(1), ...words, '--jobs', '2', '-o', at('orphans.json')])
  const children = (): string[] => {
    const { stdout } = spawnSync('ps', ['-eo', 'pid,args'], { encoding: 'utf8' })
    return stdout.split('\n').filter((line) => line.includes(at('orphans.json')) && line.includes('--shard'))
  }
  const until = async (holds: () => boolean): Promise<void> => {
    for (let i = 0; i < 300 && !holds(); i++) await new Promise((done) => setTimeout(done, 100))
    assert.ok(holds())
  }
  await until(() => children().length === 2)
  parent.kill('SIGKILL')
  await until(() => children().length === 0)
})

test('a share that is begun goes on, and is not joined before', async () => {
  const [first = '', second = ''] = await shares(scanned, 2, 'begun')
  const whole = readFileSync(first, 'utf8')
  const part = JSON.parse(whole)
  const known = { ...part.results[0], value: 0.125 }
  writeFileSync(first, JSON.stringify({ ...part, results: [known] }))
  const { code, err } = await mnc('merge', first, second, '-o', at('early.json'))
  assert.equal(code, 2)
  assert.match(err, /begun\.2-of-2\.json: share 2\/2 has done 1 of its \d+ items/)
  assert.ok(!existsSync(at('early.json')))
  await ok(...scanned, '--shard', '2/2', '--part', first)
  // what was there is taken as it is, the rest is measured
  assert.deepEqual(JSON.parse(readFileSync(first, 'utf8')).results, [known, ...part.results.slice(1)])
})

test('what does not belong together is refused by name', async () => {
  const words = [...evaluated.slice(0, -1), 'accuracy']
  const files = await shares(words, 3, 'a')
  const [others = ''] = await shares(words.with(1, at('other.small.onnx')), 3, 'b')
  const [batched = ''] = await shares(words.with(words.indexOf('30'), '26'), 3, 'c')
  const [halves = ''] = await shares(words, 2, 'd')
  const [gated = ''] = await shares([...words, '--min-accuracy', '0.01'], 3, 'f')
  const [scan = ''] = await shares(scanned, 3, 'e')
  writeFileSync(at('not.json'), '{"mncPart": 1}')
  const cases: readonly (readonly [readonly string[], RegExp])[] = [
    [files.slice(1), /1 of 3 shares are missing: 3/],
    [[files[0]!], /2 of 3 shares are missing: 1, 2/],
    [[...files, files[1]!], /share 2\/3 is given more than once: .*a\.2-of-3\.json/],
    [[others, ...files.slice(1)], /a\.1-of-3\.json and .*b\.3-of-3\.json .* different jobs: model is "\w+", and "\w+"/],
    [[batched, ...files.slice(1)], /different jobs: batch is 30, and 26/],
    [
      [gated, ...files.slice(1)],
      /different jobs: minAccuracy is null, and 0.01|different jobs: minAccuracy is 0.01, and null/,
    ],
    [[halves, ...files.slice(1)], /not of one division/],
    [[scan, ...files.slice(1)], /different commands: eval and sensitivity/],
    [[at('not.json')], /not\.json' is no file of a share/],
  ]
  for (const [given, message] of cases) {
    const { code, out, err } = await mnc('merge', ...given)
    assert.equal(code, 2, err)
    assert.equal(out, '')
    assert.match(err, message)
  }
  for (const [shard, next] of [
    ['0/3', /numbered from 1/],
    ['4/3', /2\/8/],
    ['x', /2\/8/],
  ] as const) {
    const { code, err } = await mnc(...words, '--shard', shard)
    assert.equal(code, 2)
    assert.match(err, next)
  }
  assert.match((await mnc('merge', ...files, '-o', at('x.json'))).err, /mnc eval writes no file/)
  assert.match((await mnc(...words, '--shard', '1/2', '--jobs', '2')).err, /divide the same work/)
})

test('every item is in one share, in order', () => {
  fc.assert(
    fc.property(fc.nat(200), fc.integer({ min: 1, max: 60 }), (items, of) => {
      let next = 0
      for (let index = 1; index <= of; index++) {
        const { from, to } = rangeOf({ index, of }, items)
        assert.equal(from, next)
        assert.ok(to - from === Math.floor(items / of) || to - from === Math.ceil(items / of))
        next = to
      }
      assert.equal(next, items)
    }),
  )
})

test('numbers come back to the bit', () => {
  const any = fc.oneof(fc.double(), fc.float(), fc.constantFrom(-0, Number.NaN, Number.NEGATIVE_INFINITY))
  const same = (a: ArrayLike<number>, b: ArrayLike<number>): void =>
    assert.deepEqual(Array.from(a).map(String), Array.from(b).map(String))
  fc.assert(
    fc.property(fc.array(fc.array(any)), (rows) => {
      const packed = JSON.parse(JSON.stringify(packRows(rows)))
      const back = unpackRows(packed)
      assert.equal(back.length, rows.length)
      for (const [i, row] of rows.entries()) {
        same(back[i]!, row)
        assert.ok(row.every((v, k) => Object.is(v, back[i]![k])))
      }
      const words = JSON.parse(JSON.stringify({ a: { number: 'NaN', b: 1 }, rows }, toWords), fromWords)
      assert.deepEqual(words, { a: { number: 'NaN', b: 1 }, rows })
    }),
  )
})
