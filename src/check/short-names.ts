/**
 * The names that values had before an export shortened them: `FILE.names.json` beside the file, a JSON object of the names before
 * by those now.
 */
import { existsSync } from 'node:fs'
import { MncError } from '../base/errors.ts'
import { readText, writeFileAtomic } from '../base/files.ts'
import type { Model } from '../graph/model.ts'

/** `net.onnx` to `net.names.json`. */
const besideFile = (file: string): string => `${file.replace(/\.onnx$/, '')}.names.json`

export async function writeNames(file: string, names: Readonly<Record<string, string>>): Promise<void> {
  await writeFileAtomic(besideFile(file), `${JSON.stringify(names, null, 1)}\n`)
}

/** Gives the values of the model in `file` the names that they had, where there is such a file. A user's error where it holds no names. */
export async function restoreNames({ graph }: Model, file: string): Promise<void> {
  const path = besideFile(file)
  if (!existsSync(path)) return
  const names = namesIn(await readText(path))
  if (!names) throw new MncError('it holds no names of values', { code: 'no-names', blame: 'user', file: path })
  // a short name may be one that another value had
  const values = names.flatMap(([short, name]) => {
    const value = graph.find(short)
    return value ? [{ value, name }] : []
  })
  for (const { value } of values) graph.rename(value, graph.freshName('short'))
  for (const { value, name } of values) if (!graph.find(name)) graph.rename(value, name)
}

function namesIn(text: string): [string, string][] | null {
  try {
    const json: unknown = JSON.parse(text)
    if (typeof json !== 'object' || json === null) return null
    const entries = Object.entries(json).flatMap(([short, name]) =>
      typeof name === 'string' ? [[short, name] satisfies [string, string]] : [],
    )
    return entries.length === Object.keys(json).length ? entries : null
  } catch {
    return null
  }
}
