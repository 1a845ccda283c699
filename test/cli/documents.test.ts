/** The command lines in the documents: every one is one that mnc takes, and those of the README's first steps are carried out. */
import assert from 'node:assert/strict'
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, symlinkSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join, resolve } from 'node:path'
import test, { after } from 'node:test'
import { mnc } from './run-mnc.ts'

const root = resolve('.')
const folder = mkdtempSync(join(tmpdir(), 'mnc-documents-'))
// workers of the sources are loaded by what lies in it
symlinkSync(join(root, 'node_modules'), join(folder, 'node_modules'))
process.chdir(folder)
after(() => {
  process.chdir(root)
  rmSync(folder, { recursive: true })
})

interface Line {
  readonly where: string
  /** Without `mnc`. */
  readonly words: readonly string[]
}

/** Lines of code that begin with `mnc`, without comments and redirections; two commands joined by && are two. */
function linesOf(document: string): Line[] {
  const blocks = [...readFileSync(join(root, document), 'utf8').matchAll(/^```\n([\s\S]*?)^```|((?:^ {4}.*\n)+)/gm)]
  return blocks.flatMap(([, fenced, indented]) =>
    (fenced ?? indented ?? '')
      .split('\n')
      .filter((line) => /^\s*(npx )?mnc /.test(line) && !/\[options\]|^\s*mnc .*\|/.test(line))
      .flatMap((line) =>
        line
          .trim()
          .replace(/\s(#|>| {2}).*$/, '')
          .split('&&'),
      )
      .map((line) => ({
        where: `${document}: ${line.trim()}`,
        words: wordsOf(line).slice(wordsOf(line).indexOf('mnc') + 1),
      })),
  )
}

const wordsOf = (line: string): string[] =>
  [...line.matchAll(/"([^"]*)"|'([^']*)'|(\S+)/g)].map(([, a, b, c]) => a ?? b ?? c ?? '')

const documents = [
  'README.md',
  ...readdirSync(join(root, 'docs'), { recursive: true, encoding: 'utf8' }).map((f) => `docs/${f}`),
].filter((f) => f.endsWith('.md'))
const lines = documents.flatMap(linesOf)

/** What a line says of files and devices that are not here, once its command and options are understood. */
const MISSING = /no such file|there is no|is no work folder|has no stage 'none'|does not work here/

test('every command line in the documents is one that mnc takes', async () => {
  assert.ok(lines.length > 70, `${lines.length}`)
  const refused: string[] = []
  for (const { where, words } of lines) {
    // of a recipe that comes with mnc no stage is looked at
    const { code, err } = await mnc(...words, ...(words[0] === 'run' ? ['--until', 'none'] : []))
    for (const file of readdirSync('.').filter((f) => f.includes('.'))) rmSync(file, { recursive: true })
    if (code !== 0 && !(code === 2 && MISSING.test(err))) refused.push(`${where}\n  ${err}`)
  }
  assert.deepEqual(refused, [])
})

test('a slip in a command line would be found', async () => {
  for (const line of [
    'prune --sparsty 0.5 x.onnx',
    'export x.onnx --target sise',
    'trian x.onnx',
    'eval x.onnx --batch 0',
  ]) {
    const { code, err } = await mnc(...line.split(' '))
    assert.equal(code, 2)
    assert.doesNotMatch(err, MISSING)
  }
})

test('the steps of the README, on a small network and the images that come with mnc', async () => {
  const steps = lines.filter(({ where }) => where.startsWith('README.md'))
  const first = steps.findIndex(({ words }) => words[0] === 'build')
  const last = steps.findIndex(({ words }) => words[0] === 'info')
  const stand = { 'densenet-bc-100-12': 'lenet', 'cifar100:DIR': 'embedded' } as Readonly<Record<string, string>>
  for (const { where, words } of steps.slice(first, last + 1)) {
    const own = words.map((w) => stand[w] ?? w)
    const fewer = { train: ['--max-steps', '2'], quantize: ['--limit', '32'], check: ['--limit', '32'] }[own[0]!] ?? []
    const { code, err } = await mnc(...own, ...fewer)
    assert.equal(code, 0, `${where}\n${err}`)
  }
  assert.ok(existsSync('deploy.onnx'))
})
