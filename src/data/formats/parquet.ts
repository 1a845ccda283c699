/** Parquet files: readers/parquet.ts. */
import { defineFormat } from './define-format.ts'

export const parquet = defineFormat({
  name: 'parquet',
  place: 'PATH',
  summary: 'a Parquet file with a column for each input, or a folder with train.parquet and test.parquet',
  async open(place, split, how) {
    const { openParquet } = await import('../readers/parquet.ts')
    return openParquet(place, split, how)
  },
})
