/** A data set of the user's own, and the format that it is to everything else. */
import { usageError } from '../../base/errors.ts'
import type { Tensor } from '../../graph/tensor.ts'
import type { Split } from '../dataset.ts'
import type { DataFormat } from './define-format.ts'

/** A kind of data set of one's own, as `--data NAME:PLACE` reads it. */
export interface DatasetDef {
  /** kebab-case, as --data names it. */
  readonly name: string
  /** What comes after the colon; null where nothing does, which is the default. */
  readonly place?: 'DIR' | 'FILE' | null
  readonly summary: string
  /**
   * Arrays by name, the samples along their first dim. Which array feeds which input is decided by name; one of whole numbers
   * called `labels` holds the class of each sample. `place`: what was given after the colon, or ''.
   */
  open(place: string, split: Split): Promise<Readonly<Record<string, Tensor>>> | Readonly<Record<string, Tensor>>
}

/** Declares a kind of data set. */
export const defineDataset = (def: DatasetDef): DatasetDef => def

export const formatOf = ({ name, place = null, summary, open }: DatasetDef): DataFormat => ({
  ...{ name, place, summary },
  async open(at, split, { map }) {
    const { ArraySet } = await import('../array-set.ts')
    const { Tensor } = await import('../../graph/tensor.ts')
    const { memoryRows } = await import('../rows.ts')
    const where = `${place === null ? name : `${name}:${at}`}#${split}`
    const opened: unknown = await open(at, split)
    if (typeof opened !== 'object' || opened === null)
      throw usageError(`${where}: open returns no arrays`, 'return them by name: { x: Tensor.float32([n, ...], ...) }')
    const columns = Object.entries(opened).map(([column, tensor]: [string, unknown]) => {
      if (!(tensor instanceof Tensor))
        throw usageError(`${where}: '${column}' is no tensor`, 'Tensor.float32([n, ...], numbers) makes one')
      const [count, ...dims] = tensor.dims
      if (count === undefined) throw usageError(`${where}: '${column}' is a scalar`, 'give it a dim for the samples')
      const bytes = tensor.bytes
      const rows = memoryRows(bytes, count === 0 ? 0 : bytes.length / count)
      return { name: column, elem: tensor.type, dims, rows, file: where }
    })
    return ArraySet.of({ name: where, split, columns, ...(map && { map }) })
  },
})
