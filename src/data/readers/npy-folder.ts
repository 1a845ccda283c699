/**
 * A folder of .npy files, one for each input: DIR/train/NAME.npy and DIR/test/NAME.npy, or DIR/train_NAME.npy, or DIR/NAME.npy for
 * both splits. Files stay where they are: rows are read from them as they are needed, so that memory does not grow with
 * the set.
 */
import { closeSync, existsSync, fstatSync, openSync, readSync, statSync } from 'node:fs'
import { join } from 'node:path'
import { type MncError, usageError } from '../../base/errors.ts'
import { listFolder, reading } from '../../base/files.ts'
import type { ArraySet, Column, ColumnMap } from '../array-set.ts'
import type { Split } from '../dataset.ts'
import { fileRows } from '../rows.ts'
import { arraySet, type SplitArray, sampleOf } from './array-names.ts'
import { splitRoots } from './folder-tree.ts'
import { readHeader } from './npy.ts'

/** Throws a usage error that names the file and what is wrong. */
export function openNpyFolder(folder: string, split: Split, map: ColumnMap | undefined): ArraySet {
  if (!existsSync(folder) || !statSync(folder).isDirectory())
    throw usageError(`npy: there is no folder '${folder}'`, 'name a folder with one .npy file for each input')
  const { roots } = splitRoots(folder)
  const root = roots[split]
  if (root === null) throw usageError(`npy: '${folder}' has no folder of the ${split} split`)
  const other = roots[split === 'train' ? 'test' : 'train']
  const place = `npy:${folder}`
  const isPrefixed = root === folder
  const names = (of: string): string[] =>
    listFolder(of)
      .filter((n) => n.endsWith('.npy') && !n.startsWith('.'))
      .map((n) => n.slice(0, -4))
      .sort()
  const inRoot = (of: string) => (array: SplitArray) => columnOf(of, array)
  const fault = (message: string): MncError => usageError(`${root}: ${message}`)
  if (isPrefixed) return arraySet(place, split, names(root), { map, column: inRoot(root), fault })
  const tagged = (of: string, s: Split): string[] => names(of).map((n) => `${s}_${n}`)
  const all = [...tagged(root, split), ...(other ? tagged(other, split === 'train' ? 'test' : 'train') : [])]
  if (!all.some((n) => n.startsWith(`${split}_`))) throw fault('there are no .npy files in it')
  const column = ({ array, name }: SplitArray): Column =>
    columnOf(array.startsWith(`${split}_`) ? root : other!, { array: name, name })
  return arraySet(place, split, all, { map, column, fault })
}

function columnOf(folder: string, { array, name }: SplitArray): Column {
  const file = join(folder, `${array}.npy`)
  const fault = (message: string): MncError => usageError(`${file}: ${message}`)
  const header = readHeader(fileEntry(file), array, fault)
  const { elem, dims, width, count } = sampleOf(header, fault)
  return { name, elem, dims, rows: fileRows(file, header.offset, count, width), file }
}

/** What a header is read from: numpy pads it to a multiple of 64 bytes, and it takes 128 unless names are long. */
const HEAD = 65_536

function fileEntry(path: string): { readonly bytes: number; head(): Buffer } {
  return reading(path, () => {
    const file = openSync(path, 'r')
    try {
      const { size } = fstatSync(file)
      const head = Buffer.alloc(Math.min(size, HEAD))
      readSync(file, head, 0, head.length, 0)
      return { bytes: size, head: () => head }
    } finally {
      closeSync(file)
    }
  })
}
