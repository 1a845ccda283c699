/** What CONTRIBUTING.md says of files is so. */
import assert from 'node:assert/strict'
import { existsSync, readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { test } from 'node:test'
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

test('every path that is named exists', () => {
  const paths = quoted(text).filter((p) => /^(src|test|scripts|docs)\/[a-z0-9/.-]+$/.test(p))
  assert.ok(paths.length > 5)
  for (const path of paths) assert.ok(existsSync(join(root, path)), path)
})
