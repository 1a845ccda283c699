/** What tells that a model is fed wrongly: notes on scales, constant and far inputs, guesses; pictures of what it sees. */
import assert from 'node:assert/strict'
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { after, before, test } from 'node:test'
import { inflateSync } from 'node:zlib'
import { writeModel } from '../../src/codec/codec.ts'
import { parseModel } from '../../src/codec/text-parse.ts'
import { runCommandLine } from '../../src/commands/program.ts'
import { guessingWarning } from '../../src/data/fed-wrongly.ts'
import { scaleWarning } from '../../src/data/pixel-scale.ts'
import { Sink } from '../cli/sink.ts'
import { npy, npz } from '../support/data-files.ts'

const scratch = mkdtempSync(join(tmpdir(), 'mnc-fed-'))
after(() => rmSync(scratch, { recursive: true }))
const at = (name: string): string => join(scratch, name)

async function mnc(...args: string[]): Promise<{ exit: number; out: string; err: string }> {
  const [stdout, stderr] = [new Sink(), new Sink()]
  const exit = await runCommandLine(args, { stdout, stderr })
  return { exit, out: stdout.text, err: stderr.text.replace(/\s+/g, ' ') }
}

/** Means over the picture as scores of three classes. */
const colours = (dims: string, axes: string) =>
  parseModel(`onnx {ir_version=10}
opset ai.onnx=21
graph "g"
  input %image : float32[N,${dims}]
  init %axes = int64[2] [${axes}]
  %scores : float32[N,3] = ReduceMean(%image, %axes) {keepdims=0}
  output %scores
end
`)

before(async () => {
  await writeModel(colours('3,2,4', '2, 3'), at('nchw.onnx'))
  await writeModel(colours('2,4,3', '1, 2'), at('nhwc.onnx'))
})

test('means and deviations that are of another range than the pixels', () => {
  const say = (scale: number, mean: number[], std: number[]): string | null => scaleWarning({ scale, mean, std })
  assert.match(say(255, [123.675, 116.28, 103.53], [58.4, 57.1, 57.4])!, /pixels \/ 255 are 0 to 1.*--scale 1/)
  assert.match(say(255, [0.5], [127.5])!, /--scale 1/)
  assert.match(say(1, [0.485, 0.456, 0.406], [0.229, 0.224, 0.225])!, /pixels \/ 1 are 0 to 255.*--scale 255/)
  for (const [scale, mean, std] of [
    [255, [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]],
    [255, [0.5], [0.5]],
    [255, [0], [1]],
    [1, [0], [1]],
    [1, [0], [255]],
    [1, [127.5], [127.5]],
    [1, [103.9, 116.8, 123.7], [1, 1, 1]],
    [127.5, [1], [1]],
  ] as const)
    assert.equal(say(scale, [...mean], [...std]), null, `${scale} ${mean} ${std}`)
})

test('an accuracy no better than guessing, where there are enough samples to tell', () => {
  assert.match(
    guessingWarning(0.1, 10, 200, true)!,
    /no better than guessing among 10 classes: .*--mean, --std, --scale/,
  )
  assert.doesNotMatch(guessingWarning(0.1, 10, 200, false)!, /--mean|--show/)
  assert.equal(guessingWarning(0.1, 10, 40, true), null)
  assert.equal(guessingWarning(0.2, 10, 200, true), null)
  assert.equal(guessingWarning(1, 1, 200, true), null)
})

const images = (pixel: (image: number, channel: number, p: number) => number, count = 4): Buffer => {
  const values = Uint8Array.from({ length: count * 24 }, (_, i) =>
    pixel(Math.floor(i / 24), Math.floor((i % 24) / 8), i % 8),
  )
  return npz({
    images: npy(values, [count, 3, 2, 4]),
    labels: npy(
      Int32Array.from({ length: count }, (_, i) => i % 3),
      [count],
    ),
  })
}

test('notes on constant and far inputs, and none on those that are as they should be', async () => {
  writeFileSync(
    at('flat.npz'),
    images(() => 7),
  )
  writeFileSync(
    at('good.npz'),
    images((i, c, p) => (i * 50 + c * 30 + p * 10) % 256),
  )
  const evaluate = (file: string, ...more: string[]) =>
    mnc('eval', at('nchw.onnx'), '--data', `npz:${at(file)}`, ...more)
  const pixels = ['--mean', '0.5', '--std', '0.5']
  assert.match(
    (await evaluate('flat.npz', ...pixels)).err,
    /note: the first 4 samples of npz:.*flat.npz#test are all alike: input 'image' is -0.94/,
  )
  const far = await evaluate('good.npz', '--mean', '0.5', '--std', '0.01')
  assert.match(far.err, /give input 'image' numbers from -50 to .*look at --mean, --std and --scale/)
  const wrong = await evaluate('good.npz', '--mean', '123', '--std', '58')
  assert.match(wrong.err, /note: the preprocessing looks wrong: mean 123/)
  const good = await evaluate('good.npz', ...pixels)
  assert.equal(good.exit, 0, good.err)
  assert.doesNotMatch(good.err, /looks wrong|alike|look at/)
  // arrays: a state of zeros beside a window is nothing odd
  await writeModel(
    parseModel(`onnx {ir_version=10}
opset ai.onnx=21
graph "g"
  input %x : float32[N,3]
  input %h : float32[N,3]
  %y : float32[N,3] = Add(%x, %h)
  output %y
end
`),
    at('two.onnx'),
  )
  const zeros = npy(new Float32Array(12), [4, 3])
  const rising = npy(
    Float32Array.from({ length: 12 }, (_, i) => i),
    [4, 3],
  )
  const labels = npy(Int32Array.of(0, 1, 2, 2), [4])
  writeFileSync(at('state.npz'), npz({ x: rising, h: zeros, labels }))
  writeFileSync(at('zeros.npz'), npz({ x: zeros, h: zeros, labels }))
  const two = (file: string) => mnc('eval', at('two.onnx'), '--data', `npz:${at(file)}`)
  assert.doesNotMatch((await two('state.npz')).err, /alike/)
  assert.match((await two('zeros.npz')).err, /are all alike: input 'x' is 0 throughout, input 'h' is 0 throughout/)
})

test('mnc info shows how pixels become the input, and says where that looks wrong', async () => {
  writeFileSync(
    at('some.npz'),
    images((i, c, p) => (i * 50 + c * 30 + p * 10) % 256),
  )
  const data = ['--data', `npz:${at('some.npz')}`, '--mean', '123.5', '--std', '58', '--limit', '4']
  assert.equal((await mnc('build', 'lenet', '-o', at('lenet.onnx'))).exit, 0)
  const lenet = await mnc('info', at('lenet.onnx'))
  assert.match(lenet.out, /pixels +\(pixel \/ 255 - mean\) \/ std: mean 0\.1307, std 0\.3081; 28x28, NCHW\n/)
  assert.equal(JSON.parse((await mnc('--json', 'info', at('lenet.onnx'))).out).preprocess.mean[0], 0.1307)
  assert.equal(JSON.parse((await mnc('--json', 'info', at('nchw.onnx'))).out).preprocess, null)
  assert.equal((await mnc('build', 'resnet', '--size', '28', '-o', at('colour.onnx'))).exit, 0)
  const quantised = await mnc(
    'quantize',
    at('colour.onnx'),
    '--data',
    'embedded',
    '--replicate-grey',
    ...data.slice(2),
    '-o',
    at('q.onnx'),
  )
  assert.equal(quantised.exit, 0, quantised.err)
  const info = await mnc('info', at('q.onnx'))
  assert.match(info.out.replace(/\s+/g, ' '), /mean 123.5 123.5 123.5, std 58 58 58; 28x28, NCHW, grey repeated/)
  assert.match(info.err, /the preprocessing looks wrong/)
})

test('the recipe of mnc ptq repeats grey into colours as the command did', async () => {
  assert.equal(
    (await mnc('build', 'resnet', '--size', '28', '--depth', '8', '--width', '4', '-o', at('rgb.onnx'))).exit,
    0,
  )
  const flags = ['--mean', '0.3', '--std', '0.3', '--limit', '16', '--effort', 'fast', '--replicate-grey']
  const done = await mnc('ptq', at('rgb.onnx'), '--data', 'embedded', ...flags, '-o', at('rgb.q.onnx'))
  assert.equal(done.exit, 0, done.err)
  const recipe = JSON.parse(readFileSync(at('rgb.q.recipe.json'), 'utf8'))
  assert.equal(recipe.stages[0].pixels['replicate-grey'], true)
  const again = await mnc('run', at('rgb.q.recipe.json'), '--workdir', at('rgb.work'))
  assert.equal(again.exit, 0, again.err)
  const synthetic = await mnc('ptq', at('rgb.onnx'), '--replicate-grey', '-o', at('rgb.s.onnx'))
  assert.equal(synthetic.exit, 2)
})

/** Bytes of an 8-bit PNG without filters, by its own definition. */
function decode(file: string): { width: number; height: number; channels: number; pixels: number[] } {
  const bytes = readFileSync(file)
  const [width, height] = [bytes.readUInt32BE(16), bytes.readUInt32BE(20)]
  const channels = bytes[25] === 2 ? 3 : 1
  const length = bytes.readUInt32BE(33)
  const raw = inflateSync(bytes.subarray(41, 41 + length))
  const pixels = Array.from({ length: height }, (_, y) => [
    ...raw.subarray(y * (width * channels + 1) + 1, (y + 1) * (width * channels + 1)),
  ])
  return { width, height, channels, pixels: pixels.flat() }
}

test('--show writes what the network sees, whatever the layout, with the class in the name', async () => {
  const pixel = (i: number, c: number, p: number): number => (i * 50 + c * 30 + p * 10) % 256
  writeFileSync(at('show.npz'), images(pixel))
  for (const model of ['nchw', 'nhwc']) {
    const args = [
      '--data',
      `npz:${at('show.npz')}`,
      '--mean',
      '0.5',
      '--std',
      '0.25',
      '--show',
      '2',
      '--out',
      at(model),
    ]
    const { exit, out, err } = await mnc('--json', 'eval', at(`${model}.onnx`), ...args)
    assert.equal(exit, 0, err)
    assert.match(err, /2 pictures in .*: numbers from -2 to /)
    assert.deepEqual(readdirSync(at(model)).sort(), ['0000.0.png', '0001.1.png'])
    assert.equal(JSON.parse(out).shown.length, 2)
    for (const i of [0, 1]) {
      const { width, height, channels, pixels } = decode(join(at(model), `000${i}.${i}.png`))
      assert.deepEqual([width, height, channels], [4, 2, 3])
      const want = Array.from({ length: 24 }, (_, k) => {
        const v = (pixel(i, k % 3, Math.floor(k / 3)) / 255 - 0.5) / 0.25
        return Math.max(0, Math.min(255, Math.round(128 + 42 * Math.fround(v))))
      })
      assert.deepEqual(pixels, want)
    }
    const sharp = await import('sharp').catch(() => null)
    if (sharp) {
      const { data, info } = await sharp
        .default(join(at(model), '0000.0.png'))
        .raw()
        .toBuffer({ resolveWithObject: true })
      assert.deepEqual([[...data], info.channels], [decode(join(at(model), '0000.0.png')).pixels, 3])
    }
  }
  const wrong = await mnc(
    'eval',
    at('two.onnx'),
    '--data',
    `npz:${at('state.npz')}`,
    '--show',
    '1',
    '--out',
    at('none'),
  )
  assert.equal(wrong.exit, 2)
  assert.match(wrong.err, /no input of .* is a picture/)
  assert.match(
    (await mnc('eval', at('nchw.onnx'), '--data', `npz:${at('show.npz')}`, '--out', at('x'))).err,
    /--out is for --show N/,
  )
})

test('empty files of all formats are said by their names', async () => {
  const empty = (name: string): void => {
    mkdirSync(dirname(at(name)), { recursive: true })
    writeFileSync(at(name), '')
  }
  for (const [reference, file] of [
    ['npz:e/a.npz', 'e/a.npz'],
    ['npy:e/npy', 'e/npy/image.npy'],
    ['parquet:e/a.parquet', 'e/a.parquet'],
    ['tar:e/a.tar', 'e/a.tar'],
    ['wav:e/wav', 'e/wav/a.wav'],
    ['folder:e/folder', 'e/folder/c/a.png'],
    ['onnx:e/onnx', 'e/onnx/test_data_set_0/input_0.pb'],
    ['cifar10:e/cifar', 'e/cifar/test_batch.bin'],
    ['mnist:e/mnist', 'e/mnist/t10k-images-idx3-ubyte'],
  ] as const) {
    empty(file)
    if (file.includes('mnist')) empty('e/mnist/t10k-labels-idx1-ubyte')
    const [kind, place] = reference.split(':') as [string, string]
    const { exit, err } = await mnc('eval', at('nchw.onnx'), '--data', `${kind}:${at(place)}`)
    assert.equal(exit, 2, `${reference}: ${err}`)
    assert.ok(err.includes(file.split('/').at(-1)!), `${reference}: ${err}`)
  }
})
