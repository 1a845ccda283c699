/** Parquet files: readers/parquet.ts. */
import { defineFormat } from './define-format.ts'

export const parquet = defineFormat({
  name: 'parquet',
  place: 'PATH',
  summary:
    'a Parquet file with a column for each input or with pictures, or a folder of files with train and test in their names',
  async open(place, split, how) {
    const { openParquet } = await import('../readers/parquet.ts')
    return openParquet(place, split, how)
  },
})
