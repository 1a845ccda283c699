/**
 * What two runs of one command may differ in: times, and the folders that they ran in. Files that are not text are
 * compared as they are.
 */
import { extname } from 'node:path'

const TEXT = new Set(['', '.csv', '.html', '.json', '.jsonl', '.svg', '.txt'])

/** Keys of JSON whose numbers are times or made of them. */
const TIMED = /("(?:seconds|milliseconds|mtime|imagesPerSecond)": ?)[\d.e+-]+/g
/** A number with a unit of time, with the blanks of a table in front of it. */
const TIME = / *\b[\d.,]+(?:e[+-]?\d+)? (?:ms|s|min|h|days?|images\/s|images a second)\b/g

export const isText = (file: string): boolean => TEXT.has(extname(file))

export interface Folders {
  readonly scratch: string
  /** The checkout: embedded data is named by its path, from the working folder or from the root. */
  readonly checkout: string
}

export function normalise(text: string, { scratch, checkout }: Folders): string {
  const package_ = new RegExp(`(?:\\.\\./)*(?:\\.\\.)?${escaped(checkout)}`, 'g')
  return text
    .replaceAll(scratch, '<scratch>')
    .replace(package_, '<package>')
    .replace(TIMED, '$1<time>')
    .replace(TIME, ' <time>')
}

const escaped = (text: string): string => text.replace(/[.*+?^${}()|[\]\\]/g, '\\$&')
