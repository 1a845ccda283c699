/** Options as TypeScript interfaces whose members carry the help text: what an editor completes, and shows on hover. */
import type { OptionSpec, OptionTable } from '../src/base/options.ts'
import type { PassDef } from '../src/pass-manager/define-pass.ts'

/** The options of every pass, by each name that it goes by. */
export function passTypes(passes: readonly PassDef[]): string {
  const names = passes.flatMap((p) =>
    [p.name, ...(p.alias ? [p.alias] : [])].map((n) => `  ${comment(p.summary)}\n  '${n}': ${interfaceOf(p.name)}`),
  )
  return [
    '/** The options of every pass, made from their declarations by `npm run generate`; do not edit. */',
    "import type { Share } from '../base/options.ts'",
    ...passes.map((p) => `${comment(p.summary)}\nexport interface ${interfaceOf(p.name)} ${bodyOf(p.options)}`),
    `/** By the name of the pass, and by its short name. */\nexport interface PassOptions {\n${names.join('\n')}\n}\n`,
  ].join('\n\n')
}

/** The options of a function, as its callers may give them. A type and not an interface: it goes where any record does. */
export function optionTypes(name: string, what: string, table: OptionTable): string {
  const body = bodyOf(table)
  return [
    '/** Made from the declarations by `npm run generate`; do not edit. */',
    ...(/\bShare\b/.test(body) ? ["import type { Share } from '../base/options.ts'"] : []),
    `/** ${what} */\nexport type ${name} = ${body}\n`,
  ].join('\n\n')
}

/** `fold-bn` has `FoldBnOptions`. */
const interfaceOf = (pass: string): string =>
  `${pass.replace(/(?:^|-)([a-z])/g, (_, c: string) => c.toUpperCase())}Options`

function bodyOf(table: OptionTable): string {
  const members = Object.entries(table).map(
    ([name, spec]) => `  ${comment(helpOf(spec))}\n  readonly ${name}?: ${typeOf(spec)} | undefined`,
  )
  return members.length > 0 ? `{\n${members.join('\n')}\n}` : '{}'
}

const comment = (text: string): string => `/** ${text.replaceAll('*/', '*\\/')} */`

const helpOf = ({ description, default: otherwise }: OptionSpec): string =>
  otherwise === undefined ? description : `${description}. Default: ${JSON.stringify(otherwise)}`

function typeOf(spec: OptionSpec): string {
  switch (spec.type) {
    case 'number':
    case 'integer':
      return 'number'
    case 'share':
      return 'Share'
    case 'shares':
      return 'readonly Share[]'
    case 'shareMap':
      return 'Readonly<Record<string, Share>>'
    case 'boolean':
      return 'boolean'
    case 'string':
      return spec.enum ? choices(spec.enum, spec.isOpen) : 'string'
    case 'choice':
      return `${choices(spec.enum, spec.isOpen)} | Readonly<Record<string, ${choices(spec.enum, spec.isOpen)}>>`
    case 'strings':
      return 'readonly string[]'
    case 'numbers':
      return 'readonly number[]'
    case 'numberMap':
      return 'Readonly<Record<string, number>>'
    case 'stringMap':
      return 'Readonly<Record<string, string>>'
  }
}

const choices = (names: readonly string[], isOpen = false): string =>
  [...names.map((c) => `'${c}'`), ...(isOpen ? ['(string & {})'] : [])].join(' | ')
