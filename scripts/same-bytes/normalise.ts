/**
 * What two runs of one command may differ in: times, and the folders that they ran in. Files that are not text are
 * compared as they are.
 */
import { extname } from 'node:path'

const TEXT = new Set(['', '.csv', '.html', '.json', '.jsonl', '.svg', '.txt'])

/** Keys of JSON whose numbers are times or derived from them. */
const TIMED = /("(?:seconds|milliseconds|mtime|imagesPerSecond)": ?)[\d.e+-]+/g
/** A number with a unit of time, with the blanks of a table in front of it. */
const TIME = / *\b[\d.,]+(?:e[+-]?\d+)? (?:ms|s|min|h|days?|images\/s|images a second)\b/g

export const isText = (file: string): boolean => TEXT.has(extname(file))

/** The report's table whose last column is times, and the last cell of a row. */
const TIMED_TABLE = /seconds<\/th><\/tr>[\s\S]*?<\/table>/g
const LAST_CELL = /[\d.,]*<\/td><\/tr>/g

/** A line of progress: which of them are shown depends on the time that has passed. */
const PROGRESS = /^\S+ {2}\d+\/\d+ {2}.* left\n/gm

/** `folder`: the one that everything of this run lies in. */
export const normalise = (text: string, folder: string): string =>
  text
    .replaceAll(folder, '<folder>')
    .replace(PROGRESS, '')
    .replace(TIMED_TABLE, (table) => table.replace(LAST_CELL, '<time></td></tr>'))
    .replace(TIMED, '$1<time>')
    .replace(TIME, ' <time>')
