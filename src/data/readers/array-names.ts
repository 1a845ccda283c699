/**
 * Arrays by name, and the split that each is of: `train_x` and `test_x`, or `x_train` and `x_test`, are x; where no name says a
 * split all arrays are of both.
 */
import { type MncError, usageError } from '../../base/errors.ts'
import { elementTypes } from '../../graph/types.ts'
import { ArraySet, type Column, type ColumnMap } from '../array-set.ts'
import type { Split } from '../dataset.ts'
import { elementOf, type NumpyHeader } from './npy.ts'

export interface SplitArray {
  /** As it is called where it is. */
  readonly array: string
  /** Without the split. */
  readonly name: string
}

const OTHER: Readonly<Record<Split, Split>> = { train: 'test', test: 'train' }

function ofSplit(names: readonly string[], split: Split): SplitArray[] {
  return names.flatMap((array) => {
    const name = array.startsWith(`${split}_`)
      ? array.slice(split.length + 1)
      : array.endsWith(`_${split}`)
        ? array.slice(0, -split.length - 1)
        : ''
    return name === '' ? [] : [{ array, name }]
  })
}

export interface ArrayReader {
  readonly map: ColumnMap | undefined
  column(of: SplitArray): Column
  fault(message: string): MncError
}

/** The arrays of a split. A usage error where the other split alone has some. */
export function arraySet(place: string, split: Split, names: readonly string[], reader: ArrayReader): ArraySet {
  if (names.length === 0) throw reader.fault('there are no arrays in it')
  const [own, others] = [ofSplit(names, split), ofSplit(names, OTHER[split])]
  if (own.length === 0 && others.length > 0)
    throw usageError(
      `${place} has no arrays of the ${split} split, such as ${split}_${others[0]!.name}`,
      `name the other split with #${OTHER[split]}`,
    )
  const used = own.length > 0 ? own : names.map((array) => ({ array, name: array }))
  const left = own.length > 0 ? names.filter((n) => ![...own, ...others].some((a) => a.array === n)) : []
  return ArraySet.of({
    ...{ name: `${place}#${split}`, split, map: reader.map, columns: used.map((a) => reader.column(a)) },
    // only labels are read of the other split
    others: others.filter((a) => isLabels(a.name, reader.map)).map((a) => reader.column(a)),
    notes: [
      ...(own.length === 0 ? [`${place} serves as both splits: no array is called train_... or test_...`] : []),
      ...(left.length > 0 ? [`arrays of neither split are not read: ${left.join(', ')}`] : []),
    ],
  })
}

const isLabels = (name: string, map: ColumnMap | undefined): boolean =>
  ['labels', 'label', 'y', map?.labels].includes(name)

/** A numpy array by sample: its first dim is the samples. */
export function sampleOf({ name, type, dims }: NumpyHeader, fault: (message: string) => MncError) {
  if (dims.length === 0) throw fault(`array '${name}' is a single number; arrays have a row for each sample`)
  const elem = elementOf[type]
  const own = dims.slice(1)
  const width = own.reduce((n, d) => n * d, elementTypes[elem].bits / 8)
  if (width === 0) throw fault(`array '${name}' has dims [${dims.join(',')}]: there are no numbers in it`)
  return { elem, dims: own, width, count: dims[0]! }
}
