/** Sets of arrays by input name: what a model is fed, what is refused and how, and that memory does not grow with the set. */
import assert from 'node:assert/strict'
import { spawnSync } from 'node:child_process'
import { closeSync, mkdirSync, mkdtempSync, openSync, rmSync, writeFileSync, writeSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, test } from 'node:test'
import { checkModels } from '../../src/check/check.ts'
import { checkBatches } from '../../src/check/check-data.ts'
import { parseModel } from '../../src/codec/text-parse.ts'
import { ArraySet, calibrationData, openDataset, sampleBatches } from '../../src/data/index.ts'
import { evaluate } from '../../src/evaluate/evaluate.ts'
import { cloneModel } from '../../src/graph/clone.ts'
import { ptq } from '../../src/ptq/ptq.ts'
import { train } from '../../src/train/loop/trainer.ts'
import { evaluated } from '../support/compiled.ts'
import { npy, npz } from '../support/data-files.ts'

const scratch = mkdtempSync(join(tmpdir(), 'mnc-arrays-'))
after(() => rmSync(scratch, { recursive: true }))

/** Scores of three classes from tokens, looked up in a table of five rows, and from features. */
const model = () =>
  parseModel(`onnx {ir_version=10}
opset ai.onnx=21
graph "g"
  input %tokens : int64[N,2]
  input %features : float32[N,3]
  init %table = float32[5,2] [0, 1, 2, 3, 4, 5, 6, 7, 8, 9]
  init %axes = int64[1] [1]
  init %w = float32[3,3] [1, 0, 0.5, 0, 1, 0.25, 0, 0, 1]
  init %v = float32[2,3] [0.5, -1, 0.25, 0.125, 0, 1]
  %looked : float32[N,2,2] = Gather(%table, %tokens)
  %pooled : float32[N,2] = ReduceMean(%looked, %axes) {keepdims=0}
  %a : float32[N,3] = MatMul(%features, %w)
  %b : float32[N,3] = MatMul(%pooled, %v)
  %scores : float32[N,3] = Add(%a, %b)
  output %scores
end
`)

const COUNT = 24
const tokens = BigInt64Array.from({ length: COUNT * 2 }, (_, i) => BigInt((i * 3) % 5))
const features = Float64Array.from({ length: COUNT * 3 }, (_, i) => ((i * 37) % 23) / 4 - 2)
/** What the graph computes, by hand in double precision. */
const scoresOf = (i: number): number[] => {
  const pooled = [0, 1].map((k) => [0, 1].reduce((sum, t) => sum + Number(tokens[i * 2 + t]) * 2 + k, 0) / 2)
  const [p, q] = pooled as [number, number]
  const [f, g, h] = [...features.subarray(i * 3, i * 3 + 3)] as [number, number, number]
  return [f + 0.5 * p + 0.125 * q, g - p, 0.5 * f + 0.25 * g + h + 0.25 * p + q]
}
const best = (scores: readonly number[]): number => scores.indexOf(Math.max(...scores))
const labels = Int32Array.from({ length: COUNT }, (_, i) => (best(scoresOf(i)) + (i % 4 === 0 ? 1 : 0)) % 3)

let files = 0
const archive = (arrays: Record<string, Uint8Array>): string => {
  const file = join(scratch, `${files++}.npz`)
  writeFileSync(file, npz(arrays))
  return `npz:${file}`
}
const good = () => ({
  tokens: npy(tokens, [COUNT, 2]),
  features: npy(features, [COUNT, 3]),
  labels: npy(labels, [COUNT]),
})
const folder = (arrays: Record<string, Uint8Array>): string => {
  const path = join(scratch, `${files++}`)
  for (const [name, bytes] of Object.entries(arrays)) {
    mkdirSync(join(path, name, '..'), { recursive: true })
    writeFileSync(join(path, `${name}.npy`), bytes)
  }
  return `npy:${path}`
}
const open = async (reference: string, map?: Record<string, string>): Promise<ArraySet> => {
  const set = await openDataset(reference, 'train', { map })
  assert.ok(set instanceof ArraySet)
  return set
}

test('arrays feed the inputs of their names, in batches of any size, in the types of the inputs', async () => {
  for (const set of [await open(archive(good())), await open(folder(good()))])
    for (const batch of [1, 7, 100]) {
      let at = 0
      for await (const { feeds, labels: own, count } of sampleBatches(model(), set, undefined, batch)) {
        assert.equal(feeds.features!.type, 'float32')
        assert.deepEqual(feeds.tokens!.dims, [count, 2])
        assert.deepEqual(
          Array.from(feeds.tokens!.toNumbers()),
          [...tokens.subarray(at * 2, (at + count) * 2)].map(Number),
        )
        assert.deepEqual(Array.from(feeds.features!.toNumbers()), [...features.subarray(at * 3, (at + count) * 3)])
        assert.deepEqual([...own!], [...labels.subarray(at, at + count)])
        at += count
      }
      assert.equal(at, COUNT)
    }
})

test('accuracy is what the scores computed by hand give, of all, of the first, and of chosen samples', async () => {
  const set = await open(folder(good()))
  const rightOf = (chosen: readonly number[]): number =>
    chosen.filter((i) => best(scoresOf(i)) === labels[i]).length / chosen.length
  const all = Array.from({ length: COUNT }, (_, i) => i)
  for (const chosen of [all, all.slice(0, 9), [5, 3, 20, 21, 4, 4]]) {
    const { top1, samples } = await evaluate(model(), set.select(chosen), undefined, { batch: 5 })
    assert.equal(top1, rightOf(chosen))
    assert.equal(samples, chosen.length)
  }
  assert.equal((await evaluate(model(), set.take(9), undefined)).top1, rightOf(all.slice(0, 9)))
})

test('check, calibration, ptq and training take arrays', async () => {
  const set = await open(archive(good()))
  const batches = checkBatches(model(), set, undefined, 10)
  const checked = await checkModels(model(), model(), { batches })
  assert.equal(checked.samples, COUNT)
  assert.equal(checked.maxAbsError, 0)
  assert.equal(checked.reference.top1, (await evaluate(model(), set, undefined)).top1)
  const calibration = await calibrationData(model(), set, { batch: 8, limit: 16 })
  const seen: number[] = []
  for await (const feeds of calibration.batches()) seen.push(...Array.from(feeds.features!.toNumbers()))
  assert.deepEqual(seen, [...features.subarray(0, 48)])
  const quantised = await ptq(model(), { data: set, options: { effort: 'fast' } })
  assert.ok(quantised.distance < 0.05, String(quantised.distance))
  const student = model()
  const options = { epochs: 30, batch: 8, lr: 0.05 }
  const before = (await evaluate(student, set, undefined)).loss
  await train(student, { data: set, options })
  const after = (await evaluate(student, set, undefined)).loss
  assert.ok(after < before * 0.8, `${before} -> ${after}`)
  const taught = cloneModel(model())
  const unlabelled = await open(archive({ tokens: good().tokens, features: good().features }))
  await assert.rejects(train(taught, { data: unlabelled, options }), /has no labels for cross entropy/)
  await train(taught, {
    data: unlabelled,
    options: { ...options, loss: 'mse', epochs: 1 },
    teacher: { model: student },
  })
  await assert.rejects(evaluate(model(), unlabelled, undefined), /has no labels to measure accuracy with/)
})

test('splits: folders, prefixes and suffixes; one that is missing is said', async () => {
  const part = (from: number, to: number) => npy(features.subarray(from * 3, to * 3), [to - from, 3])
  const [a, b] = [part(0, 4), part(4, 6)]
  const [y, z] = [npy(Int32Array.of(0, 1, 0, 1), [4]), npy(Int32Array.of(2, 0), [2])]
  const layouts = [
    folder({ 'train/x': a, 'test/x': b, 'train/y': y, 'test/y': z }),
    folder({ 'Train/x': a, 'val/x': b, 'Train/y': y, 'val/y': z }),
    folder({ train_x: a, test_x: b, train_y: y, test_y: z }),
    archive({ x_train: a, x_test: b, y_train: y, y_test: z }),
  ]
  for (const at of layouts) {
    const [train, held] = [await openDataset(at, 'train'), await openDataset(at, 'test')]
    assert.deepEqual([train.size, held.size, train.classes, held.classes], [4, 2, 3, 3], at)
  }
  const both = await openDataset(folder({ x: a, y }), 'test')
  assert.match(both.notes.join(), /serves as both splits/)
  await assert.rejects(openDataset(folder({ train_x: a }), 'test'), /no arrays of the test split, such as test_x/)
  await assert.rejects(openDataset(folder({ 'train/x': a }), 'test'), /has no folder of the test split/)
  await assert.rejects(openDataset(archive({ x_train: a }), 'test'), /no arrays of the test split/)
})

test('--map names arrays; what it does not find is said', async () => {
  const at = folder({ ids: good().tokens, f: good().features, kind: good().labels })
  const set = await open(at, { tokens: 'ids', features: 'f', labels: 'kind' })
  assert.equal(
    (await evaluate(model(), set, undefined)).top1,
    (await evaluate(model(), await open(archive(good())), undefined)).top1,
  )
  await assert.rejects(open(at, { tokens: 'idz' }), /--map tokens=idz: .*has no 'idz'/)
  const wrong = await open(at, { token: 'ids' })
  await assert.rejects(drain(wrong), /no input or output 'token'/)
  const pictures = archive({ x: npy(new Uint8Array(2 * 12), [2, 2, 2, 3]), y: npy(Int32Array.of(0, 1), [2]) })
  assert.ok(!((await openDataset(pictures, 'train')) instanceof ArraySet))
  assert.ok((await openDataset(pictures, 'train', { map: { x: 'x' } })) instanceof ArraySet)
})

async function drain(set: ArraySet): Promise<number> {
  let count = 0
  for await (const batch of sampleBatches(model(), set, undefined, 100)) count += batch.count
  return count
}

test('what does not fit is refused before the first batch, with the file, the array and the sample', async () => {
  const nan = Float64Array.from(features)
  nan[10] = Number.NaN
  const far = BigInt64Array.from(tokens)
  far[7] = 5n
  const cases: [Record<string, Uint8Array>, RegExp][] = [
    [{ ...good(), features: npy(features, [COUNT * 3]) }, /has (72|24) samples, but '.*' has (24|72)/],
    [
      { ...good(), features: npy(features.subarray(0, 48), [COUNT, 2]) },
      /'features' has the shape \[samples, 2\].*takes \[N, 3\]/,
    ],
    [
      { ...good(), tokens: npy(Float32Array.from(tokens, Number), [COUNT, 2]) },
      /'tokens' is float32, but input 'tokens' takes int64/,
    ],
    [{ ...good(), features: npy(nan, [COUNT, 3]) }, /\.n(pz|py): 'features' is NaN in sample 3/],
    [
      { ...good(), tokens: npy(far, [COUNT, 2]) },
      /\.n(pz|py): 'tokens' is 5 in sample 3, but input 'tokens' takes -5 to 4/,
    ],
    [
      { features: good().features, labels: good().labels },
      /no array for input 'tokens' int64\[N,2\]; it has features, labels/,
    ],
    [
      { ...good(), labels: npy(Float32Array.from(labels), [COUNT]) },
      /\.n(pz|py): 'labels' is float32, and classes are whole numbers \(write it as int64/,
    ],
    [
      {
        ...good(),
        labels: npy(
          Int32Array.from(labels, (l) => l - 1),
          [COUNT],
        ),
      },
      /labels\[\d+\] is -1; a label is a whole number/,
    ],
  ]
  for (const [arrays, message] of cases)
    for (const at of [archive(arrays), folder(arrays)])
      await assert.rejects(open(at).then(drain), message, `${message}`)
  await assert.rejects(open(archive({ x: npy(new Float32Array(0), [0, 3]) })), /no numbers in it|has no samples/)
  await assert.rejects(
    open(folder({})).catch(() => open('npy:/no/such')),
    /there is no folder '\/no\/such'/,
  )
  const many = npy(
    Int32Array.from(labels, (l) => l + 3),
    [COUNT],
  )
  await assert.rejects(
    evaluate(model(), await open(folder({ ...good(), labels: many })), undefined),
    /has 3 classes, but .* has 6/,
  )
})

test('damaged .npy files: cut at any place, or longer than they say', async () => {
  const whole = Buffer.from(good().features)
  for (const length of [0, 5, 11, 60, 127, 128, whole.length - 1]) {
    const at = folder({ features: whole.subarray(0, length) })
    await assert.rejects(
      open(at),
      /features\.npy: (array )?'features' (is empty|is not a \.npy array|is truncated|is damaged)/,
      `${length} bytes`,
    )
  }
  await assert.rejects(
    open(folder({ features: Buffer.concat([whole, Buffer.alloc(8)]) })),
    /contains 8 bytes more than its shape/,
  )
  await assert.rejects(open(folder({ features: npy(features, [COUNT, 3], { fortran: true }) })), /unsupported form/)
})

test('a million samples are read in memory that does not grow with them', { timeout: 120_000 }, () => {
  const path = join(scratch, 'large')
  mkdirSync(path)
  const write = (count: number): void => {
    const file = openSync(join(path, 'features.npy'), 'w')
    const head = npy(new Float32Array(0), [0, 32]).toString('latin1').replace('(0, 32)', `(${count}, 32)`)
    const lost = String(count).length - 1
    writeSync(file, Buffer.from(head.replace(' '.repeat(lost + 1), ' '), 'latin1'))
    const piece = Buffer.from(Float32Array.from({ length: 32 * 10_000 }, (_, i) => (i % 97) / 97).buffer)
    for (let at = 0; at < count; at += 10_000) writeSync(file, piece)
    closeSync(file)
  }
  const script = `
    import { openDataset, sampleBatches } from './src/data/index.ts'
    import { parseModel } from './src/codec/text-parse.ts'
    const model = parseModel('onnx {ir_version=10}\\nopset ai.onnx=21\\ngraph "g"\\n  input %features : float32[N,32]\\n  %y : float32[N,32] = Relu(%features)\\n  output %y\\nend\\n')
    const set = await openDataset('npy:${path}', 'train')
    let n = 0
    for await (const { count } of sampleBatches(model, set, undefined, 256)) n += count
    console.log(n, process.resourceUsage().maxRSS)
  `
  const measure = (count: number): number => {
    write(count)
    const { stdout, stderr } = spawnSync('node', evaluated(script), {
      encoding: 'utf8',
    })
    const [n, peak] = stdout.trim().split(' ').map(Number)
    assert.equal(n, count, stderr)
    return peak! / 1024
  }
  const [few, many] = [measure(250_000), measure(1_000_000)]
  // 128 MB against 32 MB
  assert.ok(many - few < 48, `${few.toFixed(0)} MB of memory for 250,000 samples, ${many.toFixed(0)} MB for a million`)
})
