/** The process that unpacks a Parquet file (parquet.ts starts it; parquet-unpack.ts does the work). */
import { writeSync } from 'node:fs'
import { frameBytes } from '../../base/frames.ts'
import { watchProcess } from '../../base/watched-process.ts'
import { type Unpacked, unpackParquet } from './parquet-unpack.ts'

/** The pipe to the process that asks. */
const PIPE = 3

const [, , file = '', bytes, ...only] = process.argv
watchProcess(Number(bytes))
const tell = (json: Unpacked, part?: Uint8Array): void => {
  // at once, so that what is not read yet does not pile up here
  for (const piece of frameBytes({ json, parts: part ? [part] : [] }))
    for (let at = 0; at < piece.length; ) at += writeSync(PIPE, piece, at)
}
await unpackParquet(file, tell, only.length > 0 ? only : undefined)
