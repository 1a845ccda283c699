/** `mnc completion SHELL`: a completion script, derived from the declarations of commands and passes. */
import { flagOf, type OptionTable } from '../base/options.ts'
import { type CommandDef, defineCommand } from './define-command.ts'

const shells = ['bash', 'zsh', 'fish']

interface Entry {
  /** Words after `mnc`, e.g. `pass prune`. */
  readonly path: string
  readonly words: readonly string[]
  /** Of its arguments, besides files. */
  readonly values: readonly string[]
  readonly flags: readonly Flag[]
}

interface Flag {
  readonly flag: string
  /** null: it takes no value. */
  readonly values: readonly string[] | null
  /** Its value may be a file or a folder, or name one behind a colon. */
  readonly files?: 'whole' | 'behind'
  /** It takes several values, with commas between. */
  readonly isList?: boolean
}

/** Of every command (program.ts). */
const globalFlags: readonly Flag[] = [
  ...['--json', '--quiet', '--verbose', '--help', '--no-config'].map((flag) => ({ flag, values: null })),
  ...['--config', '--dump-stages'].map((flag) => ({ flag, values: [], files: 'whole' as const })),
  { flag: '--seed', values: [] },
]

/** `commands`: all of them, including this one. */
export const completionOf = (commands: () => readonly CommandDef[]) =>
  defineCommand({
    name: 'completion',
    summary: 'Print a completion script for bash, zsh or fish',
    arguments: [{ name: 'SHELL', description: `One of ${shells.join(', ')}`, values: async () => shells }],
    options: {},
    examples: [
      'mkdir -p ~/.local/share/bash-completion/completions && mnc completion bash > ~/.local/share/bash-completion/completions/mnc',
      'mkdir -p ~/.zfunc && mnc completion zsh > ~/.zfunc/_mnc    # and in ~/.zshrc: fpath+=~/.zfunc; autoload -Uz compinit; compinit',
      'mkdir -p ~/.config/fish/completions && mnc completion fish > ~/.config/fish/completions/mnc.fish',
    ],
    async run([shell = ''], _, io) {
      const { usageError } = await import('../base/errors.ts')
      const scriptOf = new Map(Object.entries(scripts)).get(shell)
      if (!scriptOf) throw usageError(`there is no completion for '${shell}'`, `one of ${shells.join(', ')}`)
      const script = scriptOf(await entriesOf(await withLifted(commands()), []))
      io.result({ shell, script }, script)
    },
  })

/** Subcommands that are commands too come last. */
async function withLifted(commands: readonly CommandDef[]): Promise<CommandDef[]> {
  const taken = new Set(commands.map((c) => c.name))
  const lifted: CommandDef[] = []
  for (const c of commands) if (c.lifts) lifted.push(...((await c.subcommands?.()) ?? []))
  return [...commands, ...lifted.filter((c) => !taken.has(c.name))]
}

async function entriesOf(commands: readonly CommandDef[], path: readonly string[]): Promise<Entry[]> {
  const entries: Entry[] = []
  for (const c of commands) {
    const below = (await c.subcommands?.()) ?? []
    const at = [...path, c.name]
    const values: string[] = []
    for (const a of c.arguments) values.push(...((await a.values?.()) ?? []))
    const flags = [...(await flagsOf(c.options)), ...globalFlags]
    const words = [...below.map((s) => s.name), ...flags.map((f) => f.flag)]
    entries.push({ path: at.join(' '), words, values, flags })
    entries.push(...(await entriesOf(below, at)))
  }
  if (path.length > 0) return entries
  const words = [...commands.map((c) => c.name), ...globalFlags.map((f) => f.flag), '--version']
  return [{ path: '', words, values: [], flags: globalFlags }, ...entries]
}

async function flagsOf(options: OptionTable): Promise<Flag[]> {
  const flags: Flag[] = []
  for (const [name, spec] of Object.entries(options)) {
    const flag = flagOf(name)
    if (spec.type === 'boolean') {
      flags.push({ flag, values: null })
      if (spec.default === true) flags.push({ flag: flag.replace(/^--/, '--no-'), values: null })
      continue
    }
    const { suggestions = [] } = spec
    const given = (spec.type === 'string' || spec.type === 'choice') && spec.enum
    const values = given || (typeof suggestions === 'function' ? await suggestions() : suggestions)
    const { placeholder = '' } = spec
    const files = placeholder === 'REF' ? 'behind' : /FILE|DIR/.test(placeholder) ? 'whole' : null
    flags.push({ flag, values, ...(files && { files }), isList: spec.type === 'strings' && values.length > 0 })
  }
  return flags
}

/** For bash and zsh: what is offered behind the commands in `at` and the word `prev`. */
function offers(entries: readonly Entry[]): string {
  const cases = entries.map(
    (e) =>
      `    '${e.path}') offer='${e.words.join(' ')}'${e.values.length > 0 ? ` values='${e.values.join(' ')}'` : ''} ;;`,
  )
  const valued = entries.flatMap(({ path, flags }) =>
    flags.flatMap(({ flag, values, files, isList }) =>
      values === null
        ? []
        : [
            `    '${path} ${flag}') offer='' values='${values.join(' ')}' files='${files ?? ''}'${isList ? ' list=1' : ''} ;;`,
          ],
    ),
  )
  return `  case "$at" in
${cases.join('\n')}
  esac
  files=$at
  case "$at $prev" in
${valued.join('\n')}
  esac`
}

/** Adds a word to the commands in `at`, if it is one of them. */
const follow = (entries: readonly Entry[]): string =>
  `case "\${at:+$at }$w" in ${entries.flatMap((e) => (e.path ? [`'${e.path}'`] : [])).join('|')}) at="\${at:+$at }$w" ;; esac`

/** A colon is a word of its own; what follows it is a place. */
const bash = (entries: readonly Entry[]): string => `_mnc() {
  local cur prev at='' offer='' values='' files='' list='' w
  cur=\${COMP_WORDS[COMP_CWORD]} prev=\${COMP_WORDS[COMP_CWORD-1]}
  for w in "\${COMP_WORDS[@]:1:COMP_CWORD-1}"; do
    ${follow(entries)}
  done
  [ "$cur" = : ] && cur='' prev=:
${offers(entries)}
  [ "$prev" = : ] && offer='' values=''
  [ "$files" = behind ] && files=''
  if [ -n "$list" ]; then
    COMPREPLY=($(compgen -P "\${cur%"\${cur##*,}"}" -W "$values" -- "\${cur##*,}"))
  else
    COMPREPLY=($(compgen -W "$offer $values" -- "$cur"))
  fi
  case "$cur" in -*) ;; *) [ -n "$files" ] && COMPREPLY+=($(compgen -f -- "$cur")) ;; esac
  case "\${COMPREPLY[0]}" in *:|*=) compopt -o nospace 2>/dev/null ;; esac
}
complete -o filenames -F _mnc mnc
`

/** A function to be loaded from $fpath as the file _mnc, or to be sourced behind compinit. */
const zsh = (entries: readonly Entry[]): string => `#compdef mnc
_mnc() {
  local prev=$words[CURRENT-1] at='' offer='' values='' files='' list='' w
  for w in "\${(@)words[2,CURRENT-1]}"; do
    ${follow(entries)}
  done
${offers(entries)}
  [[ -z $list ]] || compset -P '*,'
  compadd -- \${=offer} \${\${=values}:#*[:=]}
  compadd -S '' -- \${(M)\${=values}:#*[:=]}
  [[ $files != behind || $PREFIX == *:* ]] || files=''
  [[ $PREFIX == -* || -z $files ]] || { compset -P '*:'; _files }
}
if [[ $funcstack[1] == _mnc ]]; then _mnc "$@"; else compdef _mnc mnc; fi
`

function fish(entries: readonly Entry[]): string {
  const lines = entries.flatMap(({ path, words, values, flags }) => {
    const seen = path.split(' ').filter(Boolean)
    const when =
      seen.length > 0 ? seen.map((w) => `__fish_seen_subcommand_from ${w}`).join('; and ') : '__fish_use_subcommand'
    const line = (rest: string): string => `complete -c mnc -n '${when}' ${rest}`
    return [
      ...words.filter((w) => !w.startsWith('--')).map((w) => line(`-a ${w}`)),
      ...values.map((v) => line(`-a ${v}`)),
      ...flags.map((f) => line(`-l ${f.flag.slice(2)}${fishValue(f)}`)),
    ]
  })
  return `${lines.join('\n')}\ncomplete -c mnc -n __fish_use_subcommand -l version\n`
}

function fishValue({ values, files, isList }: Flag): string {
  if (values === null) return ''
  const offered = isList ? `(__fish_complete_list , "printf %s\\\\\\n ${values.join(' ')}")` : values.join(' ')
  return `${files ? ' -r' : ' -x'}${values.length > 0 ? ` -a '${offered}'` : ''}`
}

const scripts = { bash, zsh, fish }
