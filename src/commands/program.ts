/** Commander's tree, made from the registry of commands; runs one. Knows no command or pass by name. */
import type { Writable } from 'node:stream'
import { Command, CommanderError } from 'commander'
import { MncError, reportedElsewhere, usageError } from '../base/errors.ts'
import { systemReason } from '../base/files.ts'
import { nearest, parseOptions } from '../base/options.ts'
import { packageVersion } from '../base/package-files.ts'
import { setProbeLimits } from '../runtime/probe-options.ts'
import type { CommandDef } from './define-command.ts'
import { addFlags, givenOptions } from './flags.ts'
import { commands } from './index.ts'
import { CommandIO, type GlobalOptions } from './io.ts'

interface Streams {
  readonly stdout: Writable
  readonly stderr: Writable
}

const EXIT = { ok: 0, bug: 1, badInput: 2, gate: 3, interrupted: 130 } as const

/** V8's message for typed arrays that are too large: only dims of a model, or of its inputs, can ask for such. */
const NO_MEMORY = /^(Invalid (typed )?array (buffer )?length|Array buffer allocation failed)/i

const globalFlags = [
  ['--json', 'Print the result as one JSON document'],
  ['-q, --quiet', 'Print no progress and no warnings'],
  ['-v, --verbose', 'Print more details'],
] as const

/** Commander's program with every command; subcommands only of those that `argv` mentions. */
async function makeProgram(argv: readonly string[], streams: Streams): Promise<Command> {
  const program: Command = new Command('mnc')
    .description('Compress neural networks as ONNX graphs: prune, quantise, fine-tune, distil, export.')
    .version(packageVersion(), '--version', 'Print the version')
    .helpOption('-h, --help', 'Show help')
    .helpCommand('help [command]', 'Show help for a command')
    .configureHelp({
      showGlobalOptions: true,
      visibleGlobalOptions: (c) => (c.parent ? program.options.filter((o) => !o.hidden) : []),
    })
    .showSuggestionAfterError(true)
    .configureOutput({
      writeOut: (text) => void streams.stdout.write(text),
      writeErr: (text) => void streams.stderr.write(text),
      outputError: (text, write) => write(text.replace(/^error: /, 'mnc: ')),
    })
    .exitOverride()
  for (const [flags, description] of globalFlags) program.option(flags, description)
  program.option('--seed <N>', 'Seed of all random numbers (default 0)')
  program.option(
    '--dump-stages <DIR>',
    'Write the model as text after each pass and after each stage of a training step or export',
  )
  for (const def of commands) await addCommand(program, program, def, argv, streams)
  return program
}

async function addCommand(
  program: Command,
  parent: Command,
  def: CommandDef,
  argv: readonly string[],
  streams: Streams,
): Promise<void> {
  const command = parent.command(def.name).summary(def.summary).description(def.summary)
  const names = [def.name, ...(def.aliases ?? [])]
  for (const a of def.arguments) command.argument(usageOf(a), a.description)
  // the list of commands needs no flags, and making them takes time
  if (names.some((name) => argv.includes(name))) addFlags(command, def.options)
  command.aliases(def.aliases ?? []).allowExcessArguments(false)
  if (def.examples) command.addHelpText('after', `\nExamples:\n${def.examples.map((e) => `  $ ${e}`).join('\n')}`)
  if (def.subcommands && argv.includes(def.name))
    for (const sub of await def.subcommands()) await addCommand(program, command, sub, argv, streams)
  // an unknown word below a command with subcommands is a misspelt subcommand, whatever options follow it
  if (def.subcommands) command.allowUnknownOption().allowExcessArguments()
  command.action(async () => {
    if (def.subcommands) refuseUnknown(command)
    const io = new CommandIO(globalOptions(program), streams.stdout, streams.stderr)
    const options = parseOptions(def.options, givenOptions(command, def.options), def.name)
    if (typeof options.probeSeconds === 'number') setProbeLimits({ seconds: options.probeSeconds })
    const run = (): Promise<void> => def.run(command.args, options, io)
    const { dumpStages: folder } = program.opts()
    if (folder === undefined) return run()
    const { dumpStages, watchStages } = await import('../pass-manager/stages.ts')
    await watchStages(dumpStages(String(folder)), run)
  })
}

function usageOf({ name, optional, isList }: CommandDef['arguments'][number]): string {
  const word = isList ? `${name}...` : name
  return optional ? `[${word}]` : `<${word}>`
}

/** Suggests which subcommand was meant. */
function refuseUnknown(command: Command): void {
  const [word] = command.args
  if (word === undefined) return
  if (word.startsWith('-')) throw usageError(`unknown option '${word}'`, `mnc ${command.name()} --help lists them`)
  const near = nearest(
    word,
    command.commands.flatMap((c) => [c.name(), ...c.aliases()]),
  )
  throw usageError(`unknown ${command.name()} '${word}'${near ? `, did you mean '${near}'?` : ''}`)
}

function globalOptions(program: Command): GlobalOptions {
  const { json = false, quiet = false, verbose = false, seed = '0' } = program.opts()
  if (!/^\d+$/.test(String(seed)) || !Number.isSafeInteger(Number(seed)))
    throw new MncError(`--seed must be a whole number, not '${seed}'`, { code: 'bad-usage', blame: 'user' })
  return { json, quiet, verbose, seed: Number(seed) }
}

/** Reports what went wrong on stderr and returns the exit code. */
function report(error: unknown, { stderr }: Streams): number {
  if (error instanceof CommanderError) return error.exitCode === 0 ? EXIT.ok : EXIT.badInput // commander has reported it
  const say = (text: string): void => void stderr.write(`mnc: ${text}\n`)
  const debug = process.env.MNC_DEBUG ? Number(process.env.MNC_DEBUG) > 0 : false
  if (debug && error instanceof Error) say(error.stack ?? String(error))
  if (error instanceof MncError) {
    if (error.code !== reportedElsewhere().code) say(error.describe())
    const codes = {
      user: EXIT.badInput,
      model: EXIT.badInput,
      pass: EXIT.bug,
      gate: EXIT.gate,
      interrupt: EXIT.interrupted,
    }
    return codes[error.blame]
  }
  const message = error instanceof Error ? error.message : String(error)
  if (error instanceof RangeError && NO_MEMORY.test(message)) {
    say(`the model needs more memory than there is: a tensor of its shapes cannot be allocated (${message})`)
    return EXIT.badInput
  }
  if (systemReason(error) !== null) {
    say(message)
    return EXIT.badInput
  }
  say(`${message} (a bug in mnc; MNC_DEBUG=1 shows where)`)
  return EXIT.bug
}

/** Runs one command line (without `node mnc`) and returns the exit code. */
export async function runCommandLine(argv: readonly string[], streams: Streams = process): Promise<number> {
  try {
    const program = await makeProgram(argv, streams)
    await program.parseAsync([...argv], { from: 'user' })
    return EXIT.ok
  } catch (error) {
    return report(error, streams)
  }
}
