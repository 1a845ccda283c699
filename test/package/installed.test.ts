/** The packed package in an empty project: installed offline, started, imported, its examples run, its links followed. */
import assert from 'node:assert/strict'
import { cpSync, existsSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import test, { after, before } from 'node:test'
import { Rng } from '../../src/base/rng.ts'
import { encodeModel } from '../../src/codec/codec.ts'
import type { Value } from '../../src/graph/graph.ts'
import { Model } from '../../src/graph/model.ts'
import { Tensor } from '../../src/graph/tensor.ts'
import { npy, png } from '../support/data-files.ts'
import { type Installed, installPacked } from './install.ts'
import { brokenLinks } from './links.ts'

let project: Installed
before(() => {
  project = installPacked()
})
after(() => project.remove())

const ok = (program: string, ...args: string[]): string => {
  const { status, stdout, stderr } = project.run(program, ...args)
  assert.equal(status, 0, `${program} ${args.join(' ')}: ${stderr}`)
  return stdout
}

test('the command starts, and works on the models and data of the package', () => {
  const { version } = JSON.parse(readFileSync('package.json', 'utf8'))
  assert.equal(ok('npx', '--no-install', 'mnc', '--version').trim(), version)
  ok('npx', '--no-install', 'mnc', 'build', 'lenet', '-o', 'net.onnx')
  const pruned = ok('node_modules/.bin/mnc', 'pass', 'prune', '--sparsity', '0.5', 'net.onnx', '-o', 'pruned.onnx')
  assert.match(pruned, /pruned\.onnx/)
  const evaluated = ok('node_modules/.bin/mnc', '--json', 'eval', 'pruned.onnx', '--data', 'embedded', '--limit', '20')
  assert.equal(JSON.parse(evaluated).samples, 20)
})

test('no libraries for CUDA come with it', () => {
  const engine = readdirSync(join(project.folder, 'node_modules/onnxruntime-node/bin'), { recursive: true })
  assert.ok(engine.some((f) => /libonnxruntime\.|onnxruntime\.dll/.test(String(f))))
  assert.deepEqual(
    engine.filter((f) => /cuda|tensorrt/i.test(String(f))),
    [],
  )
})

test('the library is imported by modules, and required by CommonJS', () => {
  const use = `
    const model = mnc.parseModel(text)
    mnc.pass(model, 'prune', { sparsity: 0.5 }).then(({ changed }) => console.log(changed, typeof mnc.defineMetric))`
  const text = readFileSync('test/goldens/insert-prune-mask/layer.txt', 'utf8').split('== in\n')[1]!.split('\n==')[0]!
  const source = `const text = ${JSON.stringify(text)}\n`
  writeFileSync(join(project.folder, 'use.mjs'), `import * as mnc from 'mnc'\n${source}${use}`)
  writeFileSync(join(project.folder, 'use.cjs'), `const mnc = require('mnc')\n${source}${use}`)
  assert.equal(ok(process.execPath, 'use.mjs'), 'true function\n')
  writeFileSync(
    join(project.folder, 'web.mjs'),
    `import * as mnc from 'mnc/web'\n${source}${use.replace('defineMetric', 'useEngine')}`,
  )
  assert.equal(ok(process.execPath, 'web.mjs'), 'true function\n')
  assert.equal(ok(process.execPath, 'use.cjs'), 'true function\n')
})

test('TypeScript finds the types, in a project that checks those of its packages', () => {
  writeFileSync(
    join(project.folder, 'use.ts'),
    `import { pass, readModel, type Model } from 'mnc'
import { useEngine } from 'mnc/web'
const model: Model = await readModel('net.onnx')
await pass(model, 'prune', { sparsity: 0.5, scope: 'layer' })
// @ts-expect-error: no such option
await pass(model, 'prune', { sparsty: 0.5 })
declare module 'mnc' {
  interface PassOptions {
    'my-pass': { readonly to?: string }
  }
}
await pass(model, 'my-pass', { to: 'x' })
// @ts-expect-error: not what it takes
await pass(model, 'my-pass', { to: 1 })
useEngine(await import('onnxruntime-node'))
`,
  )
  cpSync(join(project.package, 'examples/own-config'), join(project.folder, 'typed'), { recursive: true })
  const options = { module: 'nodenext', target: 'es2022', strict: true, noEmit: true, skipLibCheck: false, types: [] }
  const compilerOptions = { ...options, allowImportingTsExtensions: true }
  const files = ['use.ts', 'typed/mnc.config.ts']
  writeFileSync(join(project.folder, 'tsconfig.json'), JSON.stringify({ compilerOptions, files }))
  const { status, stdout } = project.run(join(process.cwd(), 'node_modules/.bin/tsc'), '-p', '.')
  assert.equal(status, 0, stdout)
})

test('publint and Are The Types Wrong find nothing', () => {
  const linted = ok(process.execPath, join(import.meta.dirname, 'lint-package.mjs'), project.tarball)
  const { messages, problems } = JSON.parse(linted)
  assert.deepEqual(messages, [])
  // CommonJS gets the module itself: Node.js 20.19 and later require it
  assert.deepEqual([...new Set(problems.map(({ kind }: { readonly kind: string }) => kind))], ['CJSResolvesToESM'])
})

/** What each example's `make` leaves, and what has to hold of it. */
const examples: Readonly<Record<string, (read: (file: string) => Figures) => void>> = {
  'audio-vad'(read) {
    assert.ok(read('vad.check.json').model!.top1 > 0.8)
  },
  tabular(read) {
    assert.ok(read('small.check.json').model!.top1 > 0.85)
  },
  text(read) {
    assert.ok(read('small.check.json').model!.top1 > 0.8)
  },
  detector(read) {
    assert.ok(read('detector.map.json').metrics!.map!.value > 0.9)
    assert.ok(read('small.map.json').metrics!.map!.value > 0.8)
  },
  'own-config'(read) {
    assert.ok(read('error.json').top1! > 0.9)
    assert.ok(read('error.json').metrics!['most-wrong']!.value > 0)
  },
}

interface Figures {
  readonly top1?: number
  readonly model?: { readonly top1: number }
  readonly metrics?: Readonly<Record<string, { readonly value: number }>>
}

for (const [name, holds] of Object.entries(examples))
  test(`examples/${name} runs as it stands`, () => {
    const at = (file: string): string => join(project.folder, name, file)
    cpSync(join(project.package, 'examples', name), at('.'), { recursive: true })
    ok('make', '-C', name)
    holds((file) => JSON.parse(readFileSync(at(file), 'utf8')))
    // a second make has nothing left to do
    assert.doesNotMatch(ok('make', '-C', name), /mnc /)
  })

/** A layer of an encoder: embedding, attention, a wider layer between normalisations. */
function encoder(): Model {
  const model = new Model()
  const { graph } = model
  const rng = new Rng(7)
  const b = graph.append()
  const weight = (name: string, ...dims: number[]): Value => {
    const size = dims.reduce((a, c) => a * c, 1)
    const bound = Math.sqrt(3 / dims[0]!)
    return b.initializer(
      name,
      Tensor.float32(
        dims,
        Float32Array.from({ length: size }, () => rng.uniform(-bound, bound)),
      ),
    )
  }
  const norm = (x: Value, name: string): Value =>
    b.op('LayerNormalization', [
      x,
      b.initializer(`${name}.scale`, Tensor.float32([32], new Float32Array(32).fill(1))),
      b.initializer(`${name}.bias`, Tensor.float32([32], new Float32Array(32))),
    ])
  const tokens = graph.addInput('input_ids', { elem: 'int64', dims: ['batch', 'sequence'] })
  const x = norm(b.op('Gather', [weight('table', 50, 32), tokens]), 'first')
  const [q, k, v] = ['q', 'k', 'v'].map((n) => b.op('MatMul', [x, weight(n, 32, 32)], {}, { name: n }))
  const scores = b.op('Softmax', [b.op('MatMul', [q!, b.op('Transpose', [k!], { perm: [0, 2, 1] })])])
  const y = norm(b.op('Add', [x, b.op('MatMul', [scores, v!])]), 'second')
  const wide = b.op('Relu', [b.op('MatMul', [y, weight('up', 32, 128)], {}, { name: 'up' })])
  const type = { elem: 'float32', dims: ['batch', 'sequence', 32] } as const
  graph.addOutput(b.op('MatMul', [wide, weight('down', 128, 32)], {}, { name: 'down', type }))
  return model
}

/** What a tutorial has between lines of three backticks, and a word after the first. */
const blocks = (tutorial: string, kind = ''): string[] => {
  const text = readFileSync(join(project.package, `docs/tutorials/${tutorial}.md`), 'utf8')
  return [...text.matchAll(/^```(\w*)\n([\s\S]*?)^```/gm)].flatMap(([, word, body]) => (word === kind ? [body!] : []))
}
const commandsIn = (tutorial: string): string[] =>
  blocks(tutorial).flatMap((block) => block.split('\n').filter((line) => line.startsWith('mnc ')))
const inFolder = (name: string, line: string): string =>
  ok('sh', '-c', `cd ${name} && PATH="../node_modules/.bin:$PATH" && ${line}`)

for (const [tutorial, example, count] of [
  ['audio', 'audio-vad', 4],
  ['detector', 'detector', 7],
] as const)
  test(`the tutorial '${tutorial}' does what it says, line by line`, () => {
    const lines = commandsIn(tutorial)
    assert.ok(lines.length >= count, `${lines}`)
    for (const line of lines) inFolder(example, line)
  })

test("the tutorial 'own-loss': its loss trains, by itself and for single outputs", () => {
  const folder = join(project.folder, 'loss')
  mkdirSync(folder)
  writeFileSync(join(folder, 'mnc.config.ts'), blocks('own-loss', 'ts')[0]!)
  for (const [from, to] of [
    ['trained', 'teacher'],
    ['quantised', 'student'],
  ])
    cpSync(join(project.folder, `text/${from}.onnx`), join(folder, `${to}.onnx`))
  const lines = commandsIn('own-loss')
  assert.equal(lines.length, 2)
  for (const line of lines) {
    const output = JSON.parse(inFolder('loss', 'mnc info student.onnx --json')).outputs[0].name
    const own = line.replace('npy:DIR', 'npy:../text/data').replace(/boxes=log-cosh,scores=kl/, `${output}=log-cosh`)
    assert.match(inFolder('loss', `${own} --max-steps 2 --batch 8`), /trained\.onnx/)
  }
})

test("the tutorial 'pictures': from a folder of them to files that ship, and another point of the curve", () => {
  const folder = join(project.folder, 'pictures')
  const rng = new Rng(5)
  for (const split of ['train', 'test'])
    for (const [c, name] of ['cat', 'dog'].entries()) {
      const at = join(folder, 'photos', split, name)
      mkdirSync(at, { recursive: true })
      for (let i = 0; i < 48; i++) {
        // the one kind is red, the other blue
        const pixel = (k: number): number => Math.round(255 * rng.uniform(0, k % 3 === 2 * c ? 1 : 0.5))
        writeFileSync(
          join(at, `${i}.png`),
          png(
            32,
            32,
            3,
            Uint8Array.from({ length: 768 }, (_, k) => pixel(k)),
          ),
        )
      }
    }
  const pixels = '--mean 0.485,0.456,0.406 --std 0.229,0.224,0.225'
  inFolder('pictures', `mnc build resnet --depth 8 --width 8 --size 16 --classes 2 ${pixels} -o fresh.onnx`)
  inFolder('pictures', 'mnc train fresh.onnx --data folder:photos --epochs 4 --batch 16 --lr 0.02 -o net.onnx')
  const lines = commandsIn('pictures')
  assert.equal(lines.length, 4)
  for (const line of lines)
    inFolder(
      'pictures',
      line
        .replace('--time 60m', '--time 4s')
        .replace('bytes=100KB', 'bytes=12KB')
        .replace('-o small', '--effort fast -o small'),
    )
  assert.ok(existsSync(join(folder, 'small.onnx')) && existsSync(join(folder, 'other.onnx')))
})

test("the tutorial 'transformer': quantised whole and in its weights alone, compared with the float network", () => {
  const folder = join(project.folder, 'transformer')
  mkdirSync(join(folder, 'DIR'), { recursive: true })
  const rng = new Rng(6)
  const tokens = BigInt64Array.from({ length: 64 * 128 }, () => BigInt(rng.integer(50)))
  writeFileSync(join(folder, 'DIR/input_ids.npy'), npy(tokens, [64, 128]))
  writeFileSync(join(folder, 'bert.onnx'), encodeModel(encoder()))
  const lines = commandsIn('transformer')
  assert.equal(lines.length, 6)
  for (const line of lines) inFolder('transformer', line)
  for (const name of ['bert.w8a8.onnx', 'bert.small.onnx']) assert.ok(existsSync(join(folder, name)))
})

test("the tutorial 'makefile': its rules make a small file, and have nothing left to do", () => {
  const folder = join(project.folder, 'rules')
  mkdirSync(folder)
  writeFileSync(join(folder, 'Makefile'), blocks('makefile', 'make')[0]!)
  cpSync(join(project.folder, 'text/trained.onnx'), join(folder, 'float.onnx'))
  inFolder('rules', 'make DATA=npy:../text/data small.onnx')
  assert.ok(existsSync(join(folder, 'small.onnx')))
  assert.doesNotMatch(inFolder('rules', 'make DATA=npy:../text/data small.onnx'), /mnc /)
})

test('every link of the documents leads somewhere', () => {
  const documents = readdirSync(project.package, { recursive: true, encoding: 'utf8' }).filter(
    (f) => f.endsWith('.md') && !f.startsWith('node_modules'),
  )
  assert.ok(documents.includes('README.md') && documents.length > 10)
  assert.deepEqual(
    documents.flatMap((f) => brokenLinks(join(project.package, f))),
    [],
  )
})

test('every file that package.json names is there', () => {
  const own = JSON.parse(readFileSync(join(project.package, 'package.json'), 'utf8'))
  for (const key of ['name', 'version', 'description', 'keywords', 'license', 'engines', 'exports', 'types', 'files'])
    assert.ok(own[key], key)
  for (const path of [own.main, own.types, own.bin.mnc, ...own.files])
    assert.ok(existsSync(join(project.package, path)), path)
  assert.ok(dirname(own.types) === dirname(own.main))
})
