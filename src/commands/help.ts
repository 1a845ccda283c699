/** The layout of help pages: two columns where there is room, on narrow terminals a description below its term. */
import type { Help } from 'commander'
import { wrapWords } from './wrap.ts'

/** Narrowest column of descriptions. */
const LEAST_ROOM = 30
const INDENT = 2
const GAP = 2

/** In place of commander's own, which leaves lines unwrapped where there is little room. */
export function formatHelpItem(term: string, termWidth: number, description: string, help: Help): string {
  const width = help.helpWidth ?? 80
  const column = INDENT + termWidth + GAP
  const isNarrow = width - column < LEAST_ROOM
  const indent = isNarrow ? INDENT * 3 : column
  const lines = description === '' ? [] : wrapWords(description, Math.max(1, width - indent))
  const below = lines.map((line) => ' '.repeat(indent) + line)
  if (isNarrow) return [...wrapTerm(term, width), ...below].join('\n')
  const [first = '', ...more] = lines
  return [
    `${' '.repeat(INDENT)}${term.padEnd(termWidth)}${' '.repeat(GAP)}${first}`.trimEnd(),
    ...more.map((line) => ' '.repeat(indent) + line),
  ].join('\n')
}

const wrapTerm = (term: string, width: number): string[] =>
  wrapWords(term, width - INDENT * 2).map((line, i) => ' '.repeat(i === 0 ? INDENT : INDENT * 2) + line)

/** A command line to copy: what does not fit goes on behind a backslash, as a shell takes it. */
export function wrapExample(example: string, width: number): string {
  const lines = wrapWords(example, width - 6)
  return lines.map((line, i) => `${i === 0 ? '  $ ' : '    '}${line}${i < lines.length - 1 ? ' \\' : ''}`).join('\n')
}
