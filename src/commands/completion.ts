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
  /** null: it takes no value. Empty: files. */
  readonly values: readonly string[] | null
}

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
    const flags = [...flagsOf(c.options), ...['--json', '--quiet', '--help'].map((flag) => ({ flag, values: null }))]
    const words = [...below.map((s) => s.name), ...flags.map((f) => f.flag)]
    entries.push({ path: at.join(' '), words, values, flags })
    entries.push(...(await entriesOf(below, at)))
  }
  if (path.length > 0) return entries
  const words = [...commands.map((c) => c.name), '--help', '--version']
  return [{ path: '', words, values: [], flags: [] }, ...entries]
}

function flagsOf(options: OptionTable): Flag[] {
  return Object.entries(options).map(([name, spec]) => {
    if (spec.type === 'boolean') return { flag: flagOf(name), values: null }
    const given = (spec.type === 'string' || spec.type === 'choice') && spec.enum
    return { flag: flagOf(name), values: given || (spec.suggestions ?? []) }
  })
}

/** For bash and zsh: what is offered behind the commands in `at` and the word `prev`. */
function offers(entries: readonly Entry[]): string {
  const cases = entries.map(
    (e) =>
      `    '${e.path}') offer='${e.words.join(' ')}'${e.values.length > 0 ? ` values='${e.values.join(' ')}'` : ''} ;;`,
  )
  const valued = entries.flatMap(({ path, flags }) =>
    flags.flatMap(({ flag, values }) =>
      values === null ? [] : [`    '${path} ${flag}') values='${values.join(' ')}' offer='' ;;`],
    ),
  )
  return `  case "$at" in
${cases.join('\n')}
  esac
  case "$at $prev" in
${valued.join('\n')}
  esac`
}

/** Adds a word to the commands in `at`, if it is one of them. */
const follow = (entries: readonly Entry[]): string =>
  `case "\${at:+$at }$w" in ${entries.flatMap((e) => (e.path ? [`'${e.path}'`] : [])).join('|')}) at="\${at:+$at }$w" ;; esac`

const bash = (entries: readonly Entry[]): string => `_mnc() {
  local cur prev at='' offer='' values='' w
  cur=\${COMP_WORDS[COMP_CWORD]} prev=\${COMP_WORDS[COMP_CWORD-1]}
  for w in "\${COMP_WORDS[@]:1:COMP_CWORD-1}"; do
    ${follow(entries)}
  done
${offers(entries)}
  COMPREPLY=($(compgen -W "$offer $values" -- "$cur"))
  case "$cur" in -*) ;; *) [ -n "$at" ] && COMPREPLY+=($(compgen -f -- "$cur")) ;; esac
}
complete -o filenames -F _mnc mnc
`

/** A function to be loaded from $fpath as the file _mnc, or to be sourced behind compinit. */
const zsh = (entries: readonly Entry[]): string => `#compdef mnc
_mnc() {
  local prev=$words[CURRENT-1] at='' offer='' values='' w
  for w in "\${(@)words[2,CURRENT-1]}"; do
    ${follow(entries)}
  done
${offers(entries)}
  compadd -- \${=offer} \${=values}
  [[ $PREFIX == -* || -z $at ]] || _files
}
if [[ $funcstack[1] == _mnc ]]; then _mnc "$@"; else compdef _mnc mnc; fi
`

function fish(entries: readonly Entry[]): string {
  const lines = entries.flatMap(({ path, words, values, flags }) => {
    const seen = path.split(' ').filter(Boolean)
    const when =
      seen.length > 0 ? seen.map((w) => `__fish_seen_subcommand_from ${w}`).join('; and ') : '__fish_use_subcommand'
    const line = (rest: string): string => `complete -c mnc -n '${when}' ${rest}`
    const below = words.filter((w) => !w.startsWith('--') || flags.length === 0)
    return [
      ...below.map((w) => line(w.startsWith('--') ? `-l ${w.slice(2)}` : `-a ${w}`)),
      ...values.map((v) => line(`-a ${v}`)),
      ...flags.map(({ flag, values }) => {
        const taken = values === null ? '' : values.length > 0 ? ` -r -a '${values.join(' ')}'` : ' -r'
        return line(`-l ${flag.slice(2)}${taken}`)
      }),
    ]
  })
  return `${lines.join('\n')}\n`
}

const scripts = { bash, zsh, fish }
