/**
 * What a command is: one declaration. Flags, help, completion and docs derive from it. A declaration file imports
 * types and light tables only; `run` imports the libraries it needs, so that `mnc --help` stays fast.
 */
import type { OptionSpec, OptionsOf, OptionTable } from '../base/options.ts'
import type { CommandIO } from './io.ts'

export interface ArgumentSpec {
  /** As help shows it, e.g. `MODEL`. */
  readonly name: string
  readonly description: string
  readonly optional?: boolean
  /** Takes all arguments that follow. */
  readonly isList?: boolean
  /** What completion offers besides files. */
  values?(): Promise<readonly string[]>
}

export interface CommandDef<T extends OptionTable = OptionTable> {
  readonly name: string
  /** Other names for it. */
  readonly aliases?: readonly string[]
  readonly summary: string
  readonly arguments: readonly ArgumentSpec[]
  readonly options: T
  /** Examples, one command line each, for the end of the help. */
  readonly examples?: readonly string[]
  run(args: readonly string[], options: OptionsOf<T>, io: CommandIO): Promise<void>
  /** Commands below this one (`pass NAME`), loaded when this one is called. */
  subcommands?(): Promise<readonly CommandDef[]>
  /** Those are commands too, without this one's name, where no command has theirs: `mnc prune` is `mnc pass prune`. */
  readonly lifts?: boolean
}

export const defineCommand = <const T extends OptionTable>(def: CommandDef<T>): CommandDef<T> => def

/** `-o`: the same in every command that writes a file. */
export const output = {
  type: 'string',
  short: 'o',
  placeholder: 'FILE',
  description: 'Output file; - is standard output',
} as const satisfies OptionSpec
