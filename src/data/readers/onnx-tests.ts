/**
 * The test data that ONNX models are published with: DIR/test_data_set_0, test_data_set_1, ... with input_0.pb, input_1.pb, ...,
 * output_0.pb, ..., a TensorProto each. Arrays have the names in the files, or input_0, output_0, ... where they have none.
 *
 * Where all inputs and outputs begin with the same dim, a row along it is a sample. Else (a recurrent state beside a window of
 * sound, a shared constant) each set is one, and runs alone.
 */
import { existsSync, statSync } from 'node:fs'
import { basename, join } from 'node:path'
import { MncError, usageError } from '../../base/errors.ts'
import { listFolder, readFileBytesSync } from '../../base/files.ts'
import { readTensorProto } from '../../codec/tensor-file.ts'
import type { Tensor } from '../../graph/tensor.ts'
import { elementCount, elementTypes } from '../../graph/types.ts'
import { ArraySet, type Column, type ColumnMap } from '../array-set.ts'
import type { Split } from '../dataset.ts'
import { RowWriter } from '../rows.ts'
import { naturalOrder } from './files.ts'

interface Part {
  readonly name: string
  readonly tensor: Tensor
  readonly file: string
}

/** Throws a usage error that names the file and what is wrong. */
export function openOnnxTests(folder: string, split: Split, map: ColumnMap | undefined): ArraySet {
  if (!existsSync(folder) || !statSync(folder).isDirectory()) throw usageError(`onnx: there is no folder '${folder}'`)
  const isSet = (name: string): boolean => /^test_data_set_\d+$/.test(name)
  const inside = listFolder(folder).filter(isSet).sort(naturalOrder)
  const sets = inside.length > 0 ? inside.map((name) => join(folder, name)) : isSet(basename(folder)) ? [folder] : []
  if (sets.length === 0) throw usageError(`onnx: '${folder}' has no folders test_data_set_0, test_data_set_1, ...`)
  const first = partsOf(sets[0]!)
  const isRows = rowsAlike(first)
  const writers = first.map(({ tensor }) => {
    const width = (elementCount(tensor.dims) * elementTypes[tensor.type].bits) / 8
    return new RowWriter(isRows ? width / tensor.dims[0]! : width)
  })
  for (const [i, set] of sets.entries()) {
    const parts = i === 0 ? first : partsOf(set)
    checkAlike(first, parts, isRows, set)
    for (const [k, { tensor }] of parts.entries()) writers[k]!.append(tensor.bytes)
  }
  const columns = first.map(({ name, tensor, file }, k): Column => {
    const dims = isRows ? tensor.dims.slice(1) : tensor.dims
    return { name, elem: tensor.type, dims, rows: writers[k]!.rows(), file }
  })
  const notes = [`${folder} serves as both splits`]
  return ArraySet.of({ name: `onnx:${folder}#${split}`, split, columns, map, notes })
}

function partsOf(set: string): Part[] {
  const files = listFolder(set)
    .filter((name) => /^(in|out)put_\d+\.pb$/.test(name))
    .sort(naturalOrder)
  if (!files.some((name) => name.startsWith('input_')))
    throw usageError(`${set} has no files input_0.pb, input_1.pb, ...`)
  return files.map((name) => {
    const file = join(set, name)
    const bytes = readFileBytesSync(file)
    if (bytes.length === 0) throw usageError(`${file}: it is empty`)
    const { tensor, name: own } = refused(file, () => readTensorProto(bytes))
    if (tensor.type === 'string' || elementTypes[tensor.type].bits < 8)
      throw usageError(`${file}: tensors of ${tensor.type} are not read`)
    if (tensor.size === 0) throw usageError(`${file}: there are no numbers in it`)
    return { name: own || name.slice(0, -3), tensor, file }
  })
}

/** What is wrong with a tensor is wrong with the user's file. */
function refused<T>(file: string, work: () => T): T {
  try {
    return work()
  } catch (error) {
    if (error instanceof MncError) throw usageError(`${file}: ${error.message}`)
    throw error
  }
}

const rowsAlike = (parts: readonly Part[]): boolean => {
  const [{ tensor } = parts[0]!] = parts
  const size = tensor.dims[0]
  return size !== undefined && parts.every((p) => p.tensor.dims[0] === size)
}

function checkAlike(first: readonly Part[], parts: readonly Part[], isRows: boolean, set: string): void {
  if (parts.length !== first.length)
    throw usageError(`${set} has ${parts.length} tensors, the first set ${first.length}`)
  if (isRows && !rowsAlike(parts)) throw usageError(`${set}: its tensors have different numbers of samples`)
  for (const [k, { name, tensor, file }] of parts.entries()) {
    const want = first[k]!
    const shape = (t: Tensor): string => `${t.type}[${(isRows ? t.dims.slice(1) : t.dims).join(', ')}]`
    if (name !== want.name || shape(tensor) !== shape(want.tensor))
      throw usageError(`${file} is '${name}' ${shape(tensor)}, in the first set '${want.name}' ${shape(want.tensor)}`)
  }
}
