/** `mnc completion SHELL`: a completion script, derived from the declarations of commands and passes. */
import { flagOf, type OptionTable } from '../base/options.ts'
import { type CommandDef, defineCommand } from './define-command.ts'

const shells = ['bash', 'zsh', 'fish'] as const

interface Entry {
  /** Words after `mnc`, e.g. `pass prune`. */
  readonly path: string
  readonly words: readonly string[]
}

/** `commands`: all of them, including this one. */
export const completionOf = (commands: () => readonly CommandDef[]) =>
  defineCommand({
    name: 'completion',
    summary: 'Print a completion script for bash, zsh or fish',
    arguments: [{ name: 'SHELL', description: `One of ${shells.join(', ')}` }],
    options: {},
    examples: ['mnc completion bash > ~/.local/share/bash-completion/completions/mnc'],
    async run([shell = ''], _, io) {
      const { usageError } = await import('../base/errors.ts')
      if (!shells.some((s) => s === shell))
        throw usageError(`there is no completion for '${shell}'`, `one of ${shells.join(', ')}`)
      const entries = await entriesOf(commands(), [])
      const script = shell === 'fish' ? fish(entries) : bash(entries, shell === 'zsh')
      io.result({ shell, script }, script)
    },
  })

async function entriesOf(commands: readonly CommandDef[], path: readonly string[]): Promise<Entry[]> {
  const entries: Entry[] = []
  for (const c of commands) {
    const below = (await c.subcommands?.()) ?? []
    const at = [...path, c.name]
    entries.push({ path: at.join(' '), words: [...below.map((s) => s.name), ...flagsOf(c.options)] })
    entries.push(...(await entriesOf(below, at)))
  }
  if (path.length > 0) return entries
  return [{ path: '', words: [...commands.map((c) => c.name), '--help', '--version'] }, ...entries]
}

const flagsOf = (options: OptionTable): string[] => [...Object.keys(options).map(flagOf), '--json', '--quiet', '--help']

function bash(entries: readonly Entry[], zsh: boolean): string {
  const cases = entries.map((e) => `    '${e.path}') words='${e.words.join(' ')}' ;;`)
  const paths = entries.flatMap((e) => (e.path ? [`'${e.path}'`] : [])).join('|')
  return `${zsh ? '#compdef mnc\nautoload -U +X bashcompinit && bashcompinit\n' : ''}_mnc() {
  local cur=\${COMP_WORDS[COMP_CWORD]} at='' words='' w
  for w in "\${COMP_WORDS[@]:1:COMP_CWORD-1}"; do
    case "\${at:+$at }$w" in ${paths}) at="\${at:+$at }$w" ;; esac
  done
  case "$at" in
${cases.join('\n')}
  esac
  COMPREPLY=($(compgen -W "$words" -- "$cur"))
  case "$cur" in -*) ;; *) [ -n "$at" ] && COMPREPLY+=($(compgen -f -- "$cur")) ;; esac
}
complete -o filenames -F _mnc mnc
`
}

function fish(entries: readonly Entry[]): string {
  const lines = entries.flatMap(({ path, words }) => {
    const seen = path.split(' ').filter(Boolean)
    const when =
      seen.length > 0 ? seen.map((w) => `__fish_seen_subcommand_from ${w}`).join('; and ') : '__fish_use_subcommand'
    return words.map((w) =>
      w.startsWith('--') ? `complete -c mnc -n '${when}' -l ${w.slice(2)}` : `complete -c mnc -n '${when}' -a ${w}`,
    )
  })
  return `${lines.join('\n')}\n`
}
