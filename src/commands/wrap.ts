/** Text as wide as a terminal: wrapped between words, never within one. */
import type { Writable } from 'node:stream'

/** Columns of the terminal behind a stream; files and pipes have no limit. */
export const widthOfStream = (stream: Writable): number =>
  'columns' in stream && typeof stream.columns === 'number' && stream.columns > 0
    ? stream.columns
    : Number.POSITIVE_INFINITY

/** The lines of one paragraph; a word that is longer than `width` has a line of its own. */
export function wrapWords(text: string, width: number): string[] {
  if (text.length <= width) return [text]
  const lines: string[] = []
  let line = ''
  for (const word of text.split(' ')) {
    if (line !== '' && line.length + 1 + word.length > width) {
      lines.push(line.trimEnd())
      line = word
    } else line = line === '' ? word : `${line} ${word}`
  }
  return line === '' ? lines : [...lines, line]
}

/** Each line that is too long goes on below, two columns further in than it began. */
export function fitText(text: string, width: number): string {
  if (width === Number.POSITIVE_INFINITY) return text
  return text
    .split('\n')
    .flatMap((line) => {
      if (line.length <= width) return [line]
      const indent = line.length - line.trimStart().length
      const hang = ' '.repeat(indent + 2)
      const [first = '', ...rest] = wrapWords(line.trimStart(), width - indent - 2)
      return [' '.repeat(indent) + first, ...rest.map((l) => hang + l)]
    })
    .join('\n')
}
