/**
 * Arrays written as a folder of .npy files (NumPy's NEP 1, version 1.0), one for each: what `npy:DIR` reads. A name that cannot
 * be one of a file is replaced; which array an input is fed from then is said by a map.
 */
import { mkdirSync } from 'node:fs'
import { join } from 'node:path'
import { usageError } from '../base/errors.ts'
import { writeFileAtomic, writing } from '../base/files.ts'
import type { ArraySet, ColumnMap } from './array-set.ts'
import { elementOf } from './readers/npy.ts'

/** Where numbers begin is a multiple of this. */
const ALIGNED = 64

/** Writes every column; returns the map that names the arrays whose names differ, or undefined. */
export async function writeNpyFolder(set: ArraySet, folder: string): Promise<ColumnMap | undefined> {
  await writing(folder, async () => mkdirSync(folder, { recursive: true }))
  const all = Array.from({ length: set.size }, (_, i) => i)
  const map: Record<string, string> = {}
  for (const [i, column] of set.columns.entries()) {
    // `train_` and `test_` name a split
    const isOurs = /^(?!(train|test)_)\w[\w.-]*$/.test(column.name)
    const name = isOurs ? column.name : `input${i}`
    if (!isOurs) map[column.name] = name
    const { type, dims, bytes } = set.read(column, all)
    await writeFileAtomic(join(folder, `${name}.npy`), Buffer.concat([headerOf(type, dims, column.name), bytes]))
  }
  return Object.keys(map).length > 0 ? map : undefined
}

function headerOf(type: string, dims: readonly number[], name: string): Buffer {
  const code = Object.entries(elementOf).find(([, elem]) => elem === type)?.[0]
  if (!code) throw usageError(`'${name}' is ${type}, which .npy files do not hold`)
  const order = /1$/.test(code) ? '|' : '<'
  const shape = dims.length === 1 ? `${dims[0]},` : dims.join(', ')
  const text = `{'descr': '${order}${code}', 'fortran_order': False, 'shape': (${shape}), }`
  const start = 10
  const length = Math.ceil((start + text.length + 1) / ALIGNED) * ALIGNED - start
  const head = Buffer.from('\x93NUMPY\x01\x00\x00\x00', 'latin1')
  head.writeUInt16LE(length, 8)
  return Buffer.concat([head, Buffer.from(`${text.padEnd(length - 1)}\n`, 'latin1')])
}
