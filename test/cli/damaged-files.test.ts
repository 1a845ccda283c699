/**
 * Every kind of file that a command reads, missing, unreadable or damaged: exit 2 and one line that names the file, or no
 * error at all where the damage changes nothing but numbers. Never exit 1: that is for bugs.
 */
import assert from 'node:assert/strict'
import { mkdirSync, mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import test, { after } from 'node:test'
import { Rng } from '../../src/base/rng.ts'
import { runCommandLine } from '../../src/commands/program.ts'
import { cifarRecord, idx, npy, npz, png } from '../support/data-files.ts'
import { Sink } from './sink.ts'

const folder = mkdtempSync(join(tmpdir(), 'mnc-damaged-'))
after(() => rmSync(folder, { recursive: true }))
const at = (...names: readonly string[]): string => join(folder, ...names)

async function mnc(...args: readonly string[]): Promise<{ code: number; stdout: string; stderr: string }> {
  const [stdout, stderr] = [new Sink(), new Sink()]
  const code = await runCommandLine(args, { stdout, stderr })
  return { code, stdout: stdout.text, stderr: stderr.text }
}

async function made(...args: readonly string[]): Promise<void> {
  const { code, stderr } = await mnc(...args)
  assert.equal(code, 0, `${args.join(' ')}: ${stderr}`)
}

const net = at('net.onnx')
const small = ['--limit', '4', '--batch', '4']
const rng = new Rng(5)
const pixels = (count: number): Buffer => Buffer.from(Uint8Array.from({ length: count }, () => rng.integer(256)))
await made('build', 'lenet', '-o', net)
await made('build', 'resnet', '--depth', '8', '-o', at('colour.onnx'))
await made('convert', net, '--text', '-o', at('net.txt'))
await made('convert', net, '--external-data', '-o', at('apart.onnx'))
const training = ['train', net, '--data', 'embedded', '--limit', '32', '--batch', '8', '--workers', '0']
const half = ['--max-steps', '2', '--checkpoint-steps', '1', '--val-fraction', '0.2', '-o', at('half.onnx')]
await made(...training, ...half)

interface Kind {
  readonly name: string
  /** The file that is damaged. */
  readonly file: string
  readonly whole: Uint8Array | string
  /** What may be there in its place: the command does without it. */
  readonly fine?: readonly string[]
  readonly commands: readonly (readonly string[])[]
}

const model = (name: string, file: string): Kind => ({
  ...{ name, file, whole: readFileSync(file) },
  commands: [
    ['info', file],
    ['score', file],
    ['diff', file, net],
    ['check', net, file],
    ['eval', file, '--data', 'embedded', ...small],
    ['pass', 'fold-bn', file, '-o', at('out.onnx')],
    ['export', file, '--allow-larger', '-o', at('out.onnx')],
    ['convert', file, '-o', at('out.onnx')],
  ],
})
const data = (name: string, reference: string, file: string, whole: Buffer, network = net): Kind => ({
  ...{ name, file, whole },
  commands: [['eval', network, '--data', reference, ...small]],
})
const recipe = { name: 'r', data: 'embedded', stages: [{ name: 'a', from: net, eval: { limit: 4 } }] }

const kinds: readonly Kind[] = [
  model('model', net),
  model('text form', at('net.txt')),
  {
    ...model('external data', at('apart.onnx')),
    file: at('apart.onnx.data'),
    whole: readFileSync(at('apart.onnx.data')),
  },
  {
    ...{ name: 'recipe', file: at('r.json'), whole: JSON.stringify(recipe) },
    commands: [['run', at('r.json'), '--workdir', at('work')]],
  },
  {
    ...{ name: 'policy', file: at('policy.json'), whole: '{"flip": 0.5}' },
    commands: [[...training, '--max-steps', '1', '--augment', at('policy.json'), '-o', at('out.onnx')]],
  },
  {
    ...{ name: 'option file', file: at('s.json'), whole: '{"conv1": 0.5}' },
    commands: [['pass', 'prune', net, '--layer-sparsity', `@${at('s.json')}`, '-o', at('out.onnx')]],
  },
  {
    ...{ name: 'network spec', file: at('spec.json'), whole: '{"family": "lenet"}' },
    commands: [['build', at('spec.json'), '-o', at('out.onnx')]],
  },
  {
    ...{ name: 'checkpoint', file: at('half.checkpoint.onnx'), whole: readFileSync(at('half.checkpoint.onnx')) },
    fine: ['missing', 'a link to itself', 'a broken link'],
    commands: [[...training, ...half, '--resume']],
  },
  data(
    'cifar',
    `cifar10:${at('cifar')}`,
    at('cifar', 'test_batch.bin'),
    Buffer.concat(Array.from({ length: 8 }, (_, i) => cifarRecord([i], () => rng.integer(256)))),
    at('colour.onnx'),
  ),
  data(
    'npz',
    `npz:${at('set.npz')}`,
    at('set.npz'),
    npz({
      images: npy(Uint8Array.from(pixels(4 * 784)), [4, 28, 28]),
      labels: npy(Uint8Array.of(0, 9, 2, 3), [4]),
    }),
  ),
  {
    ...data('picture', `folder:${at('pictures')}`, at('pictures', '0', 'a.png'), png(28, 28, 1, pixels(784))),
    fine: ['missing', 'a folder'],
  },
  data('idx', `mnist:${at('mnist')}`, at('mnist', 't10k-labels-idx1-ubyte'), idx([4], Uint8Array.of(0, 1, 2, 3))),
]

mkdirSync(at('cifar'))
mkdirSync(at('mnist'))
for (let c = 0; c < 10; c++) {
  mkdirSync(at('pictures', String(c)), { recursive: true })
  writeFileSync(at('pictures', String(c), 'b.png'), png(28, 28, 1, pixels(784)))
}
writeFileSync(at('mnist', 't10k-images-idx3-ubyte'), idx([4, 28, 28], pixels(4 * 784)))

/** Puts something else where the file was. */
type Damage = (file: string, whole: Buffer) => void

const flipped =
  (seed: number): Damage =>
  (file, whole) => {
    const bytes = Buffer.from(whole)
    const random = new Rng(seed)
    for (let n = 1 + random.integer(4); n > 0; n--) bytes[random.integer(bytes.length)] = random.integer(256)
    writeFileSync(file, bytes)
  }

/** Those that the system refuses to read: the error must name the file. */
const unreadable: Readonly<Record<string, Damage>> = {
  missing: () => {},
  'a folder': (file) => mkdirSync(file),
  'a link to itself': (file) => symlinkSync(file, file),
  'a broken link': (file) => symlinkSync(join(dirname(file), 'nowhere'), file),
}

const damages: Readonly<Record<string, Damage>> = {
  empty: (file) => writeFileSync(file, ''),
  'cut in half': (file, whole) => writeFileSync(file, whole.subarray(0, whole.length >> 1)),
  'one byte short': (file, whole) => writeFileSync(file, whole.subarray(0, whole.length - 1)),
  'one byte more': (file, whole) => writeFileSync(file, Buffer.concat([whole, Buffer.from([0])])),
  'random bytes': (file) => writeFileSync(file, pixels(2000)),
  zeros: (file) => writeFileSync(file, Buffer.alloc(2000)),
  'another format': (file) => writeFileSync(file, '<html></html>'),
  'JSON of another kind': (file) => writeFileSync(file, '[1, {"a": null}]'),
  ...Object.fromEntries(Array.from({ length: 6 }, (_, seed) => [`flipped bytes ${seed}`, flipped(seed)])),
}

for (const { name, file, whole, fine = [], commands } of kinds)
  test(`${name}: what cannot be read is the file's fault`, async () => {
    const bytes = Buffer.from(whole)
    for (const [what, damage] of Object.entries({ ...unreadable, ...damages })) {
      if (fine.includes(what)) continue
      for (const args of commands) {
        rmSync(file, { recursive: true, force: true })
        damage(file, bytes)
        const { code, stderr } = await mnc(...args)
        const said = `${args[0]}, ${what}: exit ${code}, ${stderr}`
        assert.ok(code === 2 || (code === 0 && !(what in unreadable)) || code === 3, said)
        if (what in unreadable) assert.ok(stderr.includes(file.split('/').at(-1)!), said)
        if (code === 2) assert.doesNotMatch(stderr, /bug in mnc|\n\s+at /, said)
      }
    }
    rmSync(file, { recursive: true, force: true })
    writeFileSync(file, bytes)
    for (const args of commands) assert.equal((await mnc(...args)).code, 0, args.join(' '))
  })
