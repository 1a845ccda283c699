/** Commands that the documents mention within a sentence: mnc takes them; what they lack is a file or a value that stands for yours. */
import assert from 'node:assert/strict'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join, resolve } from 'node:path'
import test, { after } from 'node:test'
import { mnc } from '../cli/run-mnc.ts'
import { commandsInText, documents, wordsOf } from './blocks.ts'

const root = resolve('.')
const folder = mkdtempSync(join(tmpdir(), 'mnc-mentions-'))
process.chdir(folder)
after(() => {
  process.chdir(root)
  rmSync(folder, { recursive: true })
})

/** Values in the place of letters that stand for any. */
const VALUES: Readonly<Record<string, string>> = { D: 'cpu', N: '2', NAME: 'mse', REF: 'random', T: 'size' }

/** What a configuration has defined, and not mnc. */
const own = ['mnc my-pass x.onnx', 'mnc pass my-pass', 'mnc build my-family']

/** What is said of a command that is understood, and lacks a file, or a value that the sentence leaves out. */
const INCOMPLETE =
  /missing required argument|no model is given|needs the name of a pass|argument missing|cannot be read: no such file|there is no recipe '(RECIPE|small\.recipe\.json)'|is no work folder|has no stage 'none'/

const understood = async (line: string): Promise<string | null> => {
  const words = wordsOf(line.replace(/^(npx )?mnc /, '')).map((word) => VALUES[word] ?? word)
  // of a recipe that comes with mnc no stage is looked at
  const { code, err } = await mnc(...words, ...(words[0] === 'run' && words.length > 1 ? ['--until', 'none'] : []))
  return code === 0 || (code === 2 && INCOMPLETE.test(err)) ? null : err
}

test('every command that a document mentions is one that mnc takes', async () => {
  const mentioned = documents.flatMap((document) => commandsInText(document).map((line) => ({ document, line })))
  assert.ok(mentioned.length > 60, `${mentioned.length}`)
  const refused: string[] = []
  for (const { document, line } of mentioned) {
    if (own.includes(line)) continue
    const reason = await understood(line)
    if (reason !== null) refused.push(`${document}: ${line}\n  ${reason}`)
  }
  assert.deepEqual(refused, [])
  const lines = mentioned.map(({ line }) => line)
  assert.deepEqual(
    own.filter((line) => !lines.includes(line)),
    [],
  )
})

test('a slip would be found', async () => {
  for (const line of [
    'mnc prune --sparsty 0.5 x.onnx',
    'mnc prune --sparsty',
    'mnc export x.onnx --target sise',
    'mnc trian x.onnx',
    'mnc eval x.onnx --batch 0',
  ])
    assert.notEqual(await understood(line), null, line)
})
