/** Turns option tables into commander's options, and what commander parsed back into a table's input. */
import { type Command, Option } from 'commander'
import { usageError } from '../base/errors.ts'
import { readTextSync } from '../base/files.ts'
import { flagOf, type OptionSpec, type OptionTable } from '../base/options.ts'

const placeholders: Readonly<Record<OptionSpec['type'], string>> = {
  number: 'X',
  integer: 'N',
  share: 'SHARE',
  shares: 'X,Y,...',
  shareMap: 'NAME=SHARE',
  boolean: '',
  string: 'TEXT',
  choice: 'CHOICE|NAME=CHOICE,...',
  strings: 'A,B,...',
  numbers: 'X,Y,...',
  numberMap: 'NAME=X',
  stringMap: 'NAME=TEXT',
}

/** Declares every option of the table on `command`. Validation is left to the table's schema. */
export function addFlags(command: Command, table: OptionTable): void {
  for (const [name, spec] of Object.entries(table)) {
    const flag = flagOf(name)
    const short = spec.short ? `-${spec.short}, ` : ''
    const description = describeOption(spec)
    if (spec.type === 'boolean') {
      command.addOption(new Option(`${short}${flag}`, description))
      command.addOption(new Option(flag.replace(/^--/, '--no-'), `not ${flag}`).hideHelp(spec.default !== true))
      continue
    }
    const placeholder = spec.placeholder ?? placeholders[spec.type]
    const option = new Option(`${short}${flag} <${placeholder}>`, description)
    command.addOption(option.argParser((text: string, previous: unknown) => parseValue(name, spec, text, previous)))
  }
}

/** The options of `table` that the command line gave. */
export function givenOptions(command: Command, table: OptionTable): Record<string, unknown> {
  const given: Record<string, unknown> = {}
  // next to `--no-x`, commander gives `--x` no value of its own, but `--no-x` alone would default to true
  for (const name of Object.keys(table))
    if (command.getOptionValueSource(name) === 'cli') given[name] = command.getOptionValue(name)
  return given
}

/** Text to a value; anything that is not a number stays text, and the schema rejects it. */
function parseValue(name: string, spec: OptionSpec, text: string, previous: unknown): unknown {
  const number = (s: string): number | string => (s.trim() === '' || Number.isNaN(Number(s)) ? s : Number(s))
  switch (spec.type) {
    case 'number':
    case 'integer':
    case 'share':
      return number(text)
    case 'strings':
      return [...(Array.isArray(previous) ? previous : []), ...text.split(',')]
    case 'numbers':
    case 'shares':
      return [...(Array.isArray(previous) ? previous : []), ...text.split(',').map(number)]
    case 'choice':
      return text.includes('=') ? { ...asObject(previous), ...pairsOf(text, (s) => s) } : text
    case 'numberMap':
    case 'shareMap': {
      const given = text.startsWith('@') ? readMap(text.slice(1), name) : pairsOf(text, number)
      return { ...asObject(previous), ...given }
    }
    case 'stringMap': {
      const at = text.lastIndexOf('=') // text without a name goes to the name ''
      return { ...(typeof previous === 'object' ? previous : {}), [text.slice(0, Math.max(at, 0))]: text.slice(at + 1) }
    }
    default:
      return text
  }
}

/** `a=x,b=y`; names may contain commas and equals signs where that is unambiguous. */
function pairsOf(text: string, value: (s: string) => unknown): object {
  const parts = text.split(',')
  const pairs = (parts.every((p) => p.includes('=')) ? parts : [text]).map((pair) => {
    const at = pair.lastIndexOf('=')
    return at < 0 ? [pair, ''] : [pair.slice(0, at), value(pair.slice(at + 1))]
  })
  return Object.fromEntries(pairs)
}

const asObject = (x: unknown): object => (isObject(x) ? x : {})

/**
 * `@FILE` in place of name=number pairs: a JSON object of numbers by name, or one with such objects by option under
 * `settings`, as `mnc sensitivity` writes it. A usage error for anything else.
 */
function readMap(path: string, option: string): object {
  const flag = flagOf(option)
  let json: unknown
  try {
    json = JSON.parse(readTextSync(path))
  } catch (error) {
    throw usageError(`${flag} @${path}: ${error instanceof Error ? error.message : error}`)
  }
  const settings = isObject(json) && 'settings' in json ? json.settings : null
  const map = isObject(settings) ? Reflect.get(settings, flag.slice(2)) : json
  if (isObject(map)) return map
  throw usageError(`${flag} @${path}: it holds no numbers by name`, 'e.g. {"conv1": 0.5}, or a file of mnc sensitivity')
}

const isObject = (x: unknown): x is object => typeof x === 'object' && x !== null && !Array.isArray(x)

/** Description with choices, bounds and default, as help and docs show it. */
export function describeOption(spec: OptionSpec): string {
  const facts: string[] = []
  if ((spec.type === 'string' || spec.type === 'choice') && spec.enum) facts.push(`one of ${spec.enum.join(', ')}`)
  if (spec.default !== undefined && spec.default !== false) facts.push(`default ${formatDefault(spec.default)}`)
  return facts.length > 0 ? `${spec.description} (${facts.join('; ')})` : spec.description
}

function formatDefault(value: NonNullable<OptionSpec['default']>): string {
  if (Array.isArray(value)) return value.length > 0 ? value.join(',') : 'none'
  if (typeof value === 'object') return Object.entries(value).length > 0 ? JSON.stringify(value) : 'none'
  return String(value)
}
