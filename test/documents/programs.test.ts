/** The programs and configurations that the documents show: checked by the compiler against the package's types, and run. */
import assert from 'node:assert/strict'
import { existsSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import test from 'node:test'
import { pathToFileURL } from 'node:url'
import { encodeModel } from '../../src/codec/codec.ts'
import { parseModel } from '../../src/codec/text-parse.ts'
import { prepareImports } from '../../src/config/imports.ts'
import { npy, npz } from '../support/data-files.ts'
import { blocksOf, documents } from './blocks.ts'
import { makeExpected } from './expected-files.ts'
import { root, workplace } from './workplace.ts'

const { folder, shell } = workplace('programs')
const at = (name: string): string => join(folder, name)

const shown = documents.flatMap((document) => blocksOf(document).filter(({ kind }) => kind === 'ts'))
const sourceOf = (document: string, start: string): string => {
  const found = shown.filter((block) => block.document === document && block.body.includes(start))
  assert.equal(found.length, 1, `${document} shows '${start}' once`)
  return found[0]!.body
}

/** What the text around a program provides. */
const around: Readonly<Record<string, string>> = {
  'docs/browser.md': 'declare const file: File\n',
}

/** Of the configuration in docs/extending.md. */
const MY_PASS = `import { definePass } from 'mnc'

export const myPass = definePass({
  name: 'my-pass',
  summary: 'Say whose model it is',
  options: { to: { type: 'string', default: 'me', description: 'The name' } },
  preserves: 'numerics',
  run(model, { to }) {
    const changed = model.metadata.get('owner') !== to
    model.metadata.set('owner', to)
    return changed
  },
})
`

test('the compiler takes every one of them', () => {
  assert.ok(shown.length >= 8, `${shown.length}`)
  writeFileSync(at('my-pass.ts'), MY_PASS)
  const files = shown.map(({ document, body }, i) => {
    writeFileSync(at(`shown-${i}.ts`), `${around[document] ?? ''}${body}`)
    return `shown-${i}.ts`
  })
  // what is declared for the compiler is known to it
  const known = `import { pass, readModel } from 'mnc'
await pass(await readModel('net.onnx'), 'rename-graph', { to: 'x' })
// @ts-expect-error: no such option
await pass(await readModel('net.onnx'), 'rename-graph', { too: 'x' })
`
  writeFileSync(at('known.ts'), known)
  const compilerOptions = {
    ...{ module: 'nodenext', target: 'es2022', lib: ['es2023', 'dom'], strict: true, noEmit: true, types: [] },
    ...{ allowImportingTsExtensions: true, skipLibCheck: true },
  }
  writeFileSync(at('package.json'), JSON.stringify({ type: 'module' }))
  writeFileSync(at('tsconfig.json'), JSON.stringify({ compilerOptions, files: [...files, 'known.ts'] }))
  shell(`'${join(root, 'node_modules/.bin/tsc')}' -p .`)
})

/** Runs a program in the folder, as it stands but for what is replaced. */
async function run(name: string, source: string): Promise<void> {
  writeFileSync(at(name), source)
  const before = process.cwd()
  process.chdir(folder)
  prepareImports()
  try {
    await import(pathToFileURL(at(name)).href)
  } finally {
    process.chdir(before)
  }
}

test('the library, as README has it', async () => {
  makeExpected('README.md', 'student.onnx', folder, shell)
  await run('readme.ts', sourceOf('README.md', 'modelInfo'))
  assert.match(shell('mnc info pruned.onnx'), /stem +Conv.* \d\d\.\d %/)
})

test('passes of the library, and one of its own', () =>
  run(
    'passes.ts',
    `${sourceOf('docs/extending.md', 'await runPass')}\nif (model.metadata.get('graph') !== 'mine') throw new Error('not run')\n`,
  ))

test('training step by step', async () => {
  const source = sourceOf('docs/training.md', 'trainSteps')
  assert.match(source, /take\(2000\)/)
  await run('train.ts', source.replace('take(2000)', 'take(100)'))
  assert.ok(existsSync(at('lenet.trained.onnx')))
})

test('the library for browsers, with the engine for browsers', async () => {
  makeExpected('README.md', 'net.onnx', folder, shell)
  const end = `
const { writeFile } = await import('node:fs/promises')
await writeFile('web.onnx', bytes)
`
  const source = `const file = new Blob([await (await import('node:fs/promises')).readFile('net.onnx')])\n`
  await run('web.ts', `${source}${sourceOf('docs/browser.md', 'useEngine')}${end}`)
  assert.ok(readFileSync(at('web.onnx')).length < readFileSync(at('net.onnx')).length)
  shell('mnc check net.onnx web.onnx')
})

/** Sixteen numbers to the scores of two classes. */
const small = (): Uint8Array =>
  encodeModel(
    parseModel(`onnx {ir_version=10}
opset ai.onnx=21
graph "g"
  input %input : float32[N,16]
  init %w = float32[16,2] [${Array.from({ length: 32 }, (_, i) => Math.sin(i).toFixed(3)).join(', ')}]
  %scores : float32[N,2] = MatMul(%input, %w) #name "fc"
  output %scores
end
`),
  )

test('a configuration with a pass, data and a loss', () => {
  const own = workplace('configuration')
  writeFileSync(join(own.folder, 'mnc.config.ts'), sourceOf('docs/extending.md', "name: 'waves'"))
  writeFileSync(join(own.folder, 'my-pass.ts'), MY_PASS)
  for (const name of ['x.onnx', 'teacher.onnx']) writeFileSync(join(own.folder, name), small())
  own.shell('mnc my-pass x.onnx')
  own.shell('mnc pass my-pass x.onnx --to us -o y.onnx')
  own.shell('mnc train x.onnx --data waves --max-steps 2 -o z.onnx')
  own.shell('mnc train x.onnx --teacher teacher.onnx --data waves --loss log-cosh --max-steps 2 -o z.onnx')
  own.shell('mnc train x.onnx --teacher teacher.onnx --data waves --loss scores=log-cosh --max-steps 2 -o z.onnx')
  assert.match(own.shell('mnc eval z.onnx --data waves'), /top-1/)
  assert.match(own.shell('mnc pass --list'), /my-pass/)
})

test('a configuration with a metric and a target', () => {
  const own = workplace('measuring')
  writeFileSync(join(own.folder, 'mnc.config.ts'), sourceOf('docs/extending.md', "name: 'worst-error'"))
  writeFileSync(join(own.folder, 'x.onnx'), small())
  const numbers = (width: number): Buffer =>
    npy(
      Float32Array.from({ length: 8 * width }, (_, i) => Math.cos(i)),
      [8, width],
    )
  writeFileSync(join(own.folder, 'data.npz'), npz({ input: numbers(16), scores: numbers(2) }))
  assert.match(own.shell('mnc eval x.onnx --data npz:data.npz --metric worst-error'), /worst-error/)
  own.shell('mnc quantize x.onnx --data npz:data.npz --ops MatMul --first-layer quantize -o q.onnx')
  assert.match(
    own.shell('mnc export q.onnx --target board --allow-larger -o small.onnx 2>&1'),
    /its flash is small|it has integer kernels/,
  )
})

test('the recipe of docs/recipes.md, and the page about its run', () => {
  const own = workplace('recipe')
  makeExpected('docs/recipes.md', 'recipe.json cifar10:DIR resnet56.onnx', own.folder, own.shell)
  own.shell('mnc run recipe.json')
  own.shell('mnc report build/small --seconds 0.02 -o report.html')
  assert.match(readFileSync(join(own.folder, 'report.html'), 'utf8'), /packed/)
})
