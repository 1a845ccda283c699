/** The documents' blocks of code, and the command lines among them as a shell would read them. */
import { readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'

export interface Block {
  /** DOCUMENT:LINE. */
  readonly where: string
  readonly document: string
  /** The word behind the backticks: ts, json, make, sh, or none. */
  readonly kind: string
  readonly body: string
}

const root = join(import.meta.dirname, '../..')
const readersFolders = ['docs', 'examples']

/** Those that users read, and CONTRIBUTING.md. */
export const documents: readonly string[] = [
  'README.md',
  'CONTRIBUTING.md',
  ...readersFolders.flatMap((folder) =>
    readdirSync(join(root, folder), { recursive: true, encoding: 'utf8' })
      .filter((file) => file.endsWith('.md'))
      .map((file) => `${folder}/${file}`)
      .sort(),
  ),
]

/** Between lines of backticks, or indented by four spaces. */
export function blocksOf(document: string): Block[] {
  const text = readFileSync(join(root, document), 'utf8')
  return [...text.matchAll(/^```(\w*)\n([\s\S]*?)^```|((?:^ {4}.*\n)+)/gm)].map(
    ({ index, 1: kind = '', 2: fenced, 3: indented }) => ({
      where: `${document}:${text.slice(0, index).split('\n').length + (fenced === undefined ? 0 : 1)}`,
      ...{ document, kind, body: fenced ?? indented!.replace(/^ {4}/gm, '') },
    }),
  )
}

/** Programs that a block of commands begins with, behind variables for them. */
const PROGRAM = /^(\w+=\S+ )*(mnc|npx|npm|make|git|node|mkdir|mpirun|srun) /

/** Lines of a block of commands, without comments: all of them, or those behind a prompt; none of any other block. */
export function commandsIn({ kind, body }: Block): string[] {
  if (kind !== '' && kind !== 'sh') return []
  const lines = body.split('\n').map(withoutComment)
  const prompted = lines.flatMap((line) => (line.startsWith('$ ') ? [line.slice(2)] : []))
  if (prompted.length > 0) return prompted
  return lines.some((line) => PROGRAM.test(`${line} `)) ? lines.filter((line) => line !== '' && !isUsage(line)) : []
}

/** `mnc pass [NAME] [options]`, as help has it. */
const isUsage = (line: string): boolean => line.endsWith(' [options]')

const withoutComment = (line: string): string => line.replace(/(^|\s+)#.*$/, '').trim()

/** Code in a line of text that is a command with what it works on: `mnc convert model.onnx --text`. */
export function commandsInText(document: string): string[] {
  const text = readFileSync(join(root, document), 'utf8')
    .replace(/^```[\s\S]*?^```/gm, '')
    .replace(/^ {4}.*$/gm, '')
  return [...text.matchAll(/`((?:npx )?mnc [^`]+)`/g)].map(([, line]) => line!)
}

/** What only a shell understands, outside of quotes. */
export const needsShell = (line: string): boolean =>
  !/^(npx )?mnc /.test(line) || /[|&;<>*~$`()]/.test(line.replace(/'[^']*'|"[^"]*"/g, ''))

export const wordsOf = (line: string): string[] =>
  [...line.matchAll(/"([^"]*)"|'([^']*)'|(\S+)/g)].map(([, a, b, c]) => a ?? b ?? c ?? '')
