/** What an editor shows: options of passes by name, with their help, and what functions and their options are for. */
import assert from 'node:assert/strict'
import { join } from 'node:path'
import test from 'node:test'
import ts from 'typescript-6'
import { compressOptions } from '../../src/compress/compress-options.ts'
import { findPass } from '../../src/passes/run-pass.ts'
import { trainOptions } from '../../src/train/train-options.ts'

const file = join(process.cwd(), 'hovered.ts')
const source = `import { compress, type Model, pass, train, type TrainRun } from './dist/index.js'
declare const model: Model
declare const run: TrainRun
await pass(model, 'prune', { sparsity: 0.5 })
await train(model, { ...run, options: { maskUpdateEvery: 50 } })
await compress(model, { data: 'random', workdir: 'w', options: { maxDrop: '1%' } })
await pass(model, 'quantize', {  })
`
const options: ts.CompilerOptions = {
  ...{ strict: true, target: ts.ScriptTarget.ES2022, module: ts.ModuleKind.NodeNext, types: ['node'], noEmit: true },
  ...{ moduleResolution: ts.ModuleResolutionKind.NodeNext, skipLibCheck: true },
}
const service = ts.createLanguageService({
  getCompilationSettings: () => options,
  getScriptFileNames: () => [file],
  getScriptVersion: () => '1',
  getScriptSnapshot(name) {
    const text = name === file ? source : ts.sys.readFile(name)
    return text === undefined ? undefined : ts.ScriptSnapshot.fromString(text)
  },
  getCurrentDirectory: () => process.cwd(),
  getDefaultLibFileName: (o) => ts.getDefaultLibFilePath(o),
  fileExists: (name) => name === file || ts.sys.fileExists(name),
  readFile: (name) => (name === file ? source : ts.sys.readFile(name)),
})

/** The comment that an editor shows at the last occurrence of a word. */
function hover(word: string): string {
  const info = service.getQuickInfoAtPosition(file, source.lastIndexOf(word))
  return ts.displayPartsToString(info?.documentation).replace(/\s+/g, ' ')
}
const plain = (text: string): string => text.replace(/\s+/g, ' ')

test('the source is understood', () => {
  const faults = service.getSemanticDiagnostics(file)
  assert.deepEqual(
    faults.map((d) => ts.flattenDiagnosticMessageText(d.messageText, '\n')),
    [],
  )
})

test('hovering over an option shows its help', () => {
  for (const [word, help] of [
    ['sparsity', findPass('prune').options.sparsity!.description],
    ['maskUpdateEvery', trainOptions.maskUpdateEvery.description],
    ['maxDrop', compressOptions.maxDrop.description],
  ] as const)
    assert.ok(hover(word).startsWith(plain(help)), `${word}: '${hover(word)}', not '${help}'`)
})

test('hovering over a function shows what it does', () => {
  for (const word of ['compress(', 'pass(', 'train(']) assert.ok(hover(word).length > 20, `${word}: '${hover(word)}'`)
})

test('an editor completes the options of a pass', () => {
  const at = source.lastIndexOf('{  }') + 2
  const names = service.getCompletionsAtPosition(file, at, {})!.entries.map((e) => e.name)
  for (const name of Object.keys(findPass('quantize').options)) assert.ok(names.includes(name), `${name} of ${names}`)
})
