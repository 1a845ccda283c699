/** Folders of WAV files: every kind of number, rates and lengths, what models take, and damage. */
import assert from 'node:assert/strict'
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { after, test } from 'node:test'
import { parseModel } from '../../src/codec/text-parse.ts'
import { ArraySet, openDataset, sampleBatches } from '../../src/data/index.ts'
import type { OpenOptions } from '../../src/data/open.ts'
import { resampledLength, SoundResampler } from '../../src/data/resample-sound.ts'
import { readSampleRate } from '../../src/graph/sample-rate.ts'
import { train } from '../../src/train/loop/trainer.ts'
import { type WavOptions, wav } from '../support/data-files.ts'

const scratch = mkdtempSync(join(tmpdir(), 'mnc-wav-'))
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
async function open(at: string, options: OpenOptions = {}, split: 'train' | 'test' = 'train'): Promise<ArraySet> {
  const set = await openDataset(`wav:${at}`, split, options)
  assert.ok(set instanceof ArraySet)
  return set
}
const audio = (set: ArraySet, ...rows: number[]): number[] =>
  Array.from(set.read(set.columns.find((c) => c.name === 'audio')!, rows).toNumbers(), Number)

test('numbers of all widths, in one channel or several, are -1 to 1; channels are mixed by their mean', async () => {
  const kinds: readonly [WavOptions, readonly number[], readonly number[]][] = [
    [{ bits: 8 }, [0, 128, 255, 64], [-1, 0, 127 / 128, -0.5]],
    [{ bits: 16 }, [-32768, 0, 32767, 8192], [-1, 0, 32767 / 32768, 0.25]],
    [{ bits: 24 }, [-(2 ** 23), 0, 2 ** 23 - 1, 2 ** 21], [-1, 0, 1 - 2 ** -23, 0.25]],
    [{ bits: 32 }, [-(2 ** 31), 0, 2 ** 30, 1], [-1, 0, 0.5, 2 ** -31]],
    [{ bits: '32f' }, [-1, 0, 0.7, 1.5], [-1, 0, Math.fround(0.7), 1.5]],
    [{ bits: '64f' }, [-1, 0, 0.7, 1e-9], [-1, 0, 0.7, 1e-9].map(Math.fround)],
  ]
  for (const [options, written, want] of kinds)
    for (const extensible of [false, true]) {
      const chunks = [['LIST', Buffer.from('odd')]] as const
      const mono = wav([written], { ...options, extensible, chunks })
      const silence = options.bits === 8 ? 128 : 0
      const stereo = wav([written, written.map(() => silence)], { ...options, extensible })
      const set = await open(folder({ 'a/1.wav': mono, 'b/2.WAV': stereo }))
      assert.deepEqual(audio(set, 0), want, String(options.bits))
      assert.deepEqual(
        audio(set, 1),
        want.map((v) => Math.fround(v / 2)),
      )
      assert.deepEqual([[...set.labels], set.classNames, set.sampleRate], [[0, 1], ['a', 'b'], 8000])
      assert.match(set.notes.join(), /of 2 1 of several channels: their mean/)
    }
})

test('lengths: the longest file, or --seconds; longer ones are cut, shorter ones end in silence', async () => {
  const at = folder({ 'a.wav': wav([[1, 2, 3, 4]], { rate: 4 }), 'b.wav': wav([[5, 6]], { rate: 4 }) })
  const set = await open(at)
  const units = (values: number[]): number[] => values.map((v) => v * 32768)
  assert.deepEqual([units(audio(set, 1, 0)), set.isLabelled], [[5, 6, 0, 0, 1, 2, 3, 4], false])
  assert.match(set.notes.join(), /sounds of 4 samples at 4 Hz \(1 s\); of 2 1 shorter: silence behind them/)
  const short = await open(at, { seconds: 0.75 })
  assert.deepEqual(units(audio(short, 0, 1)), [1, 2, 3, 5, 6, 0])
  assert.match(short.notes.join(), /1 longer: cut, 1 shorter/)
})

test('labels by a file, numbers up to the largest of both splits, classes of the training split', async () => {
  const one = wav([[1]])
  const at = folder({
    ...{ 'train/a.wav': one, 'train/b.wav': one, 'train/labels.csv': 'file,label\na.wav,1\nb.wav,0\n' },
    ...{ 'test/c.wav': one, 'test/labels.csv': 'c.wav,3\n' },
  })
  const [first, second] = [await open(at), await open(at, {}, 'test')]
  assert.deepEqual([first.classes, [...first.labels], second.classes, [...second.labels]], [4, [0, 1], 4, [3]])
  await assert.rejects(
    open(folder({ 'train/a/1.wav': one, 'test/b/1.wav': one })),
    /wav: .*test has classes that .*train lacks: 'b'/,
  )
})

test('another rate is an error that names the file, or resampled', async () => {
  const at = folder({ 'a/1.wav': wav([[1, 2]], { rate: 16000 }), 'b/2.wav': wav([[1, 2]], { rate: 8000 }) })
  await assert.rejects(open(at), /b.2\.wav is at 8000 Hz, but .*a.1\.wav at 16000 Hz.*--sample-rate HZ/s)
  const set = await open(at, { sampleRate: 16000 })
  assert.deepEqual(set.columns[0]!.dims, [4])
  assert.match(set.notes.join(), /1 at another rate: resampled/)
  await assert.rejects(openDataset('embedded', 'train', { sampleRate: 8000 }), /--sample-rate is for sounds/)
})

test('resampled sound is the sound: sines of both rates, and silence above the lower Nyquist frequency', () => {
  for (const [from, to] of [
    [44100, 16000],
    [8000, 16000],
    [48000, 44100],
    [16000, 11025],
  ] as const) {
    const resampler = new SoundResampler(from, to)
    const count = 4000
    const sine = (hz: number, rate: number, n: number): number => Math.sin((2 * Math.PI * hz * n) / rate + 0.3)
    const run = (hz: number): Float32Array =>
      resampler.run(Float32Array.from({ length: count }, (_, n) => sine(hz, from, n)))
    const low = Math.min(from, to)
    for (const share of [0.01, 0.2, 0.4]) {
      const got = run(share * low)
      assert.equal(got.length, resampledLength(count, from, to))
      // where the filter reaches over neither end
      for (let n = 500; n < got.length - 500; n++)
        assert.ok(Math.abs(got[n]! - sine(share * low, to, n)) < 1e-4, `${from} to ${to}: ${share} at ${n}`)
    }
    if (to < from) for (const v of run(0.52 * to).subarray(500, 800)) assert.ok(Math.abs(v) < 1e-4)
  }
})

const model = (rate: string, length = 'L') => {
  const m = parseModel(`onnx {ir_version=10}
opset ai.onnx=21
graph "g"
  input %wave : float32[N,1,${length}]
  init %axes = int64[1] [2]
  %y : float32[N,1] = ReduceMean(%wave, %axes) {keepdims=0}
  output %y
end
`)
  if (rate) m.metadata.set('sample_rate', rate)
  return m
}

test('sound feeds [N, 1, L]; another length or another rate than the model states is an error', async () => {
  const at = folder({ 'a/1.wav': wav([[8192, 0]], { rate: 4 }), 'a/2.wav': wav([[16384, 0]], { rate: 4 }) })
  const set = await open(at)
  const m = model('', '2')
  for await (const { feeds } of sampleBatches(m, set, undefined, 2))
    assert.deepEqual(
      [feeds.wave!.dims, Array.from(feeds.wave!.toNumbers())],
      [
        [2, 1, 2],
        [0.25, 0, 0.5, 0],
      ],
    )
  const batches = async (to: ReturnType<typeof model>): Promise<unknown> => {
    for await (const batch of sampleBatches(to, set, undefined, 2)) return batch
  }
  await assert.rejects(
    batches(model('', '3')),
    /shape \[samples, 2\], but input 'wave' takes \[N, 1, 3\].*--seconds S/s,
  )
  await assert.rejects(
    batches(model('8000', '2')),
    /is at 4 Hz, but the model takes sound at 8000 Hz.*--sample-rate 8000/s,
  )
  await batches(model('4', '2'))
})

test('training writes the rate and the names of the classes', async () => {
  const at = folder({ 'a/1.wav': wav([[8192, 0]], { rate: 4 }), 'b/2.wav': wav([[16384, 0]], { rate: 4 }) })
  const m = parseModel(`onnx {ir_version=10}
opset ai.onnx=21
graph "g"
  input %wave : float32[N,2]
  init %w = float32[2,2] [0.1, 0.2, -0.3, 0.4]
  %y : float32[N,2] = MatMul(%wave, %w)
  output %y
end
`)
  await train(m, { data: await open(at), options: { maxSteps: 1, batch: 2 } })
  assert.equal(readSampleRate(m), 4)
  assert.equal(m.metadata.get('mnc.classes'), '["a","b"]')
})

test('what is wrong with a file is said with its name', async () => {
  const good = wav([[1, 2, 3]])
  const alaw = Buffer.from(good)
  alaw.writeUInt16LE(6, 20)
  const cases: readonly [string, Uint8Array, RegExp][] = [
    ['empty', Buffer.alloc(0), /it is empty/],
    ['text', Buffer.from('not a wav file at all'), /it is not a WAV file/],
    ['alaw', alaw, /its sound is A-law; PCM and floats are read/],
    ['cut', good.subarray(0, good.length - 2), /truncated: 4 of 6 bytes/],
    ['silent', wav([[]]), /there is no sound in it/],
    ['headless', Buffer.concat([good.subarray(0, 12), good.subarray(36)]), /sound comes before its format/],
    ['nan', wav([[0, Number.NaN]], { bits: '32f' }), /'audio' is NaN in sample 0/],
  ]
  for (const [name, bytes, reason] of cases) {
    const at = folder({ [`${name}.wav`]: bytes })
    const use = async (): Promise<void> => {
      for await (const _ of sampleBatches(model('', 'L'), await open(at), undefined, 1));
    }
    await assert.rejects(use(), (e: Error) => reason.test(e.message) && e.message.includes(`${name}.wav`), name)
  }
  // what writers that cannot seek leave in place of a size
  const piped = await open(folder({ 'p.wav': wav([[8192, 0]], { declared: 0xffffffff }) }))
  assert.deepEqual(audio(piped, 0), [0.25, 0])
  await assert.rejects(open(folder({ 'a/note.txt': 'x' })), /wav: no WAV files/)
  // damage anywhere: an error that names the file, or numbers
  for (let at = 0; at < 44; at++) {
    const bad = Buffer.from(good)
    bad[at]! ^= 255
    const place = folder({ 'bad.wav': bad })
    await open(place).catch((e: Error) => assert.match(e.message, /bad\.wav/, `byte ${at}`))
  }
})
