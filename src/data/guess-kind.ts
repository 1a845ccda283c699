/** What a path without its kind may be: users write `--data photos` for `--data folder:photos`. */
import { readdirSync, statSync } from 'node:fs'
import { extname, join } from 'node:path'

/** The kind by the name of a file in a folder. */
const kinds: readonly (readonly [RegExp, string])[] = [
  [/^data_batch_1\.bin$/, 'cifar10'],
  [/^train\.bin$/, 'cifar100'],
  [/-idx\d-ubyte(\.gz)?$/, 'mnist'],
  [/^input_0\.pb$/, 'onnx'],
  [/\.(png|jpe?g|webp)$/i, 'folder'],
  [/\.npy$/i, 'npy'],
  [/\.parquet$/i, 'parquet'],
  [/\.(tar|tar\.gz|tgz)$/i, 'tar'],
  [/\.wav$/i, 'wav'],
]

/** Of a file by itself. */
const ofFiles: readonly (readonly [RegExp, string])[] = [
  [/\.npz$/i, 'npz'],
  [/\.parquet$/i, 'parquet'],
  [/\.(tar|tar\.gz|tgz)$/i, 'tar'],
]

/** Split, class, file; ONNX's test data are two deep. */
const DEPTH = 3
/** Entries of a folder that are looked at. */
const LOOKED_AT = 50

/** What to write in place of the path, or null where there is no such file or folder. */
export function guessReference(path: string): string | null {
  const stat = statSync(path, { throwIfNoEntry: false })
  if (!stat) return null
  if (stat.isDirectory()) {
    const kind = kindIn(path, DEPTH)
    return kind === null ? 'the folder has none of the files that mnc reads' : `the folder looks like ${kind}:${path}`
  }
  const kind = ofFiles.find(([name]) => name.test(path))?.[1]
  if (kind !== undefined) return `write ${kind}:${path}`
  return `mnc does not read ${extname(path) || 'such'} files: save arrays as .npz (numpy.savez), tables as .npz or .parquet`
}

function kindIn(folder: string, depth: number): string | null {
  const entries = readdirSync(folder, { withFileTypes: true }).slice(0, LOOKED_AT)
  for (const [name, kind] of kinds) if (entries.some((e) => !e.isDirectory() && name.test(e.name))) return kind
  if (depth === 0) return null
  for (const e of entries) {
    const kind = e.isDirectory() ? kindIn(join(folder, e.name), depth - 1) : null
    if (kind !== null) return kind
  }
  return null
}
