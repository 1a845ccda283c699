/** What CONTRIBUTING.md says about files is true. */
import assert from 'node:assert/strict'
import { existsSync, readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { test } from 'node:test'
import { exportOptions } from '../src/export/export-options.ts'
import { findOp, ops } from '../src/ops/index.ts'

const root = join(import.meta.dirname, '..')
const text = readFileSync(join(root, 'CONTRIBUTING.md'), 'utf8').replace(/^```.*?^```$/gms, '')
const quoted = (part: string): string[] => [...part.matchAll(/`([^`]+)`/g)].map(([, inner]) => inner!)

/** Rows `| operator | files |`. */
const operators = [...text.matchAll(/^\| `(\w+)` \| (`(?:src|test)\/.*) \|$/gm)].map(([, name, files]) => ({
  name: name!,
  files: quoted(files!),
}))

const sources = ['src', 'test'].flatMap((folder) =>
  readdirSync(join(root, folder), { recursive: true })
    .map((file) => `${folder}/${file}`)
    .filter((file) => file.endsWith('.ts')),
)

/** By the operator's name, or the same as the name of a variable. */
function filesNaming(operator: string): string[] {
  const names = new RegExp(`\\b(${operator}|${operator[0]!.toLowerCase()}${operator.slice(1)})\\b`)
  return sources.filter((file) => names.test(readFileSync(join(root, file), 'utf8')))
}

test('operators are named in the files that the list says, and in no others', () => {
  assert.ok(operators.length >= 2)
  for (const { name, files } of operators) {
    assert.ok(
      ops.some((def) => def.op === name && findOp({ op: def.op, domain: def.domain ?? '' }) === def),
      name,
    )
    assert.deepEqual(filesNaming(name).sort(), [...files].sort(), name)
  }
})

test('every path that is named exists, here and in the other documents', () => {
  const documents = ['', 'docs'].flatMap((folder) =>
    readdirSync(join(root, folder))
      .map((file) => join(folder, file))
      .filter((file) => file.endsWith('.md')),
  )
  const paths = documents.flatMap((file) =>
    quoted(readFileSync(join(root, file), 'utf8').replace(/^```.*?^```$/gms, ''))
      .filter((path) => /^(src|test|scripts|docs|bench)\/[a-z0-9/.-]+$/.test(path))
      .map((path) => ({ file, path })),
  )
  assert.ok(paths.length > 50)
  assert.deepEqual(
    paths.filter(({ path }) => !existsSync(join(root, path))),
    [],
  )
})

test('the files that ask for the export format are those listed, and no others', () => {
  const [, section] = /^### An export format$(.*?)^### /ms.exec(text) ?? []
  assert.ok(section)
  const formats = exportOptions.format.enum
  const asks = new RegExp(`\\bformat\\b[^\\w\\n]{0,8}'(${formats.join('|')})'|enum: \\['${formats[0]}'`)
  const files = sources.filter((file) => file.startsWith('src/') && asks.test(readFileSync(join(root, file), 'utf8')))
  const named = quoted(section).filter((p) => p.startsWith('src/'))
  const nameOf = (file: string): string => named.find((p) => p.endsWith('/') && file.startsWith(p)) ?? file
  assert.deepEqual([...new Set(files.map(nameOf))].sort(), named.sort())
})

/** Rows `| a pass | src/passes/NAME.ts (definePass) ... | the list |`: what is to be written, by which call, and the list. */
const things = [
  ...text.matchAll(/^\| (an? [\w ]+) \| `(src\/[\w/-]+\/)NAME\.ts` \(`(\w+)`\).* \| `(src\/\S+\.ts)` \|$/gm),
]

test('what is to be added by a file and a line stands so, all of it', () => {
  assert.ok(things.length >= 4)
  for (const [, thing, folder, call, list] of things) {
    const entries = readFileSync(join(root, list!), 'utf8')
    // `= definePass(` in any file, `function openNpz(` in npz.ts
    const definition = (name: string): string =>
      call!.endsWith('NAME')
        ? `function ${call!.replace('NAME', name[0]!.toUpperCase() + name.slice(1))}(`
        : `= ${call}(`
    const names = readdirSync(join(root, folder!))
      .filter((file) => file.endsWith('.ts'))
      .map((file) => file.slice(0, -3))
      .filter((name) => readFileSync(join(root, folder!, `${name}.ts`), 'utf8').includes(definition(name)))
    assert.ok(names.length >= 2, thing)
    const unlisted = names.filter((name) => !new RegExp(`from '\\./(\\w+/)?${name}\\.ts'`).test(entries))
    assert.deepEqual(unlisted, [], `${thing}: not in ${list}`)
  }
})
