/** Commander's tree, made from the registry of commands; runs one. Knows no command or pass by name. */
import type { Writable } from 'node:stream'
import { inspect } from 'node:util'
import { Command, CommanderError, Option } from 'commander'
import { MncError, reportedElsewhere, usageError } from '../base/errors.ts'
import { systemReason } from '../base/files.ts'
import { nearest, parseOptions } from '../base/options.ts'
import { packageVersion } from '../base/package-files.ts'
import { findConfig } from '../config/find.ts'
import { setProbeLimits } from '../runtime/probe-options.ts'
import type { CommandDef } from './define-command.ts'
import { addFlags, givenOptions } from './flags.ts'
import { formatHelpItem, wrapExample } from './help.ts'
import { commands } from './index.ts'
import { CommandIO, type GlobalOptions } from './io.ts'
import { fitText, widthOfStream, wrapWords } from './wrap.ts'

interface Streams {
  readonly stdout: Writable
  readonly stderr: Writable
}

/** One command line: its words, where it writes, and what it has written. */
interface Call extends Streams {
  readonly argv: readonly string[]
  io?: CommandIO
}

const EXIT = { ok: 0, bug: 1, badInput: 2, gate: 3, interrupted: 130 } as const

/** V8's message for typed arrays that are too large: only dims of a model, or of its inputs, can ask for such. */
const NO_MEMORY = /^(Invalid (typed )?array (buffer )?length|Array buffer allocation failed)/i

const globalFlags = [
  ['--json', 'Print the result as one JSON document'],
  ['-q, --quiet', 'Print no progress and no warnings'],
  ['-v, --verbose', 'Print more details'],
] as const

/** Commander's program with every command; subcommands only of those that the command line mentions. */
async function makeProgram(call: Call): Promise<Command> {
  await configure(call)
  const program: Command = new Command('mnc')
    .description('Compress neural networks as ONNX graphs: prune, quantise, fine-tune, distil, export.')
    .version(packageVersion(), '--version', 'Print the version')
    .helpOption('-h, --help', 'Show help')
    .helpCommand('help [command]', 'Show help for a command')
    .configureHelp({
      showGlobalOptions: true,
      visibleGlobalOptions: (c) => (c.parent ? program.options.filter((o) => !o.hidden) : []),
      formatItem: formatHelpItem,
      styleUsage: (usage) => wrapWords(usage, helpWidth(call.stdout) - 'Usage: '.length).join('\n  '),
    })
    .showSuggestionAfterError(true)
    .configureOutput({
      writeOut: (text) => void call.stdout.write(text),
      writeErr: (text) => void call.stderr.write(text),
      getOutHelpWidth: () => helpWidth(call.stdout),
      getErrHelpWidth: () => helpWidth(call.stderr),
      outputError: (text, write) => write(text.replace(/^error: /, 'mnc: ')),
    })
    .exitOverride()
  for (const [flags, description] of globalFlags) program.option(flags, description)
  program.option(
    '--config <FILE>',
    'Configuration; by default mnc.config.ts, .js or .mjs upward from the model or from here',
  )
  program.addOption(new Option('--no-config', 'Use no configuration').hideHelp())
  program.option('--seed <N>', 'Seed of all random numbers (default 0)')
  program.option(
    '--dump-stages <DIR>',
    'Write the model as text after each pass and after each stage of a training step or export',
  )
  for (const def of commands) await addCommand(program, program, def, call)
  const word = commandWord(call.argv)
  const taken = new Set(['help', ...commands.flatMap(namesOf)])
  if (word !== undefined && !taken.has(word))
    for (const def of commands.filter((c) => c.lifts))
      for (const sub of (await def.subcommands?.()) ?? [])
        if (!namesOf(sub).some((name) => taken.has(name))) await addCommand(program, program, sub, call)
  if (word !== 'help' && isHelp(call.argv)) refuseUnknown(program, 'command', word)
  return program
}

let isConfigured = false

/** Puts the user's configuration to use: of --config, or the nearest to a file that the command line names, or to the folder. */
async function configure({ argv }: Call): Promise<void> {
  const at = argv.findIndex((w) => w === '--config' || w.startsWith('--config='))
  const given = at < 0 ? undefined : (argv[at]!.split('=')[1] ?? argv[at + 1])
  const path = argv.includes('--no-config') ? null : (given ?? findConfig(argv, process.cwd()))
  if (path !== null) await (await import('../config/load.ts')).loadConfig(path)
  else if (isConfigured) (await import('../config/config.ts')).useConfig({})
  isConfigured = path !== null
}

/** Help has the width of the terminal, and 80 columns in files. */
const helpWidth = (stream: Writable): number => Math.min(widthOfStream(stream), isTerminal(stream) ? 120 : 80)
const isTerminal = (stream: Writable): boolean => widthOfStream(stream) !== Number.POSITIVE_INFINITY

const namesOf = ({ name, aliases = [] }: CommandDef): string[] => [name, ...aliases]

/** The word that names the command: the first that is neither an option of the program nor the value of one. */
function commandWord(argv: readonly string[]): string | undefined {
  const words = wordsOf(argv)
  return words[0] === 'help' ? words[1] : words[0]
}

const wordsOf = (argv: readonly string[]): string[] =>
  argv.filter((w, i) => !w.startsWith('-') && !/^--(seed|dump-stages|config)$/.test(argv[i - 1] ?? ''))

const isHelp = (argv: readonly string[]): boolean => wordsOf(argv)[0] === 'help'

async function addCommand(program: Command, parent: Command, def: CommandDef, call: Call): Promise<void> {
  const { argv } = call
  const command = parent.command(def.name).summary(def.summary).description(def.summary)
  for (const a of def.arguments) command.argument(usageOf(a), a.description)
  // the list of commands needs no flags, and making them takes time
  if (namesOf(def).some((name) => argv.includes(name))) addFlags(command, def.options)
  command.aliases(def.aliases ?? []).allowExcessArguments(false)
  const examples = (def.examples ?? []).map((e) => wrapExample(e, helpWidth(call.stdout)))
  if (examples.length > 0) command.addHelpText('after', `\nExamples:\n${examples.join('\n')}`)
  if (def.subcommands && argv.includes(def.name))
    for (const sub of await def.subcommands()) await addCommand(program, command, sub, call)
  // an unknown word below a command with subcommands is a misspelt subcommand, whatever options follow it
  if (def.subcommands) command.allowUnknownOption().allowExcessArguments()
  command.action(async () => {
    if (def.subcommands) refuseUnknown(command, command.name(), command.args[0])
    const io = new CommandIO({ ...globalOptions(program), words: argv }, call.stdout, call.stderr)
    call.io = io
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

/** Suggests which of its commands, a `kind` each, was meant by a word that is none of them. */
function refuseUnknown(command: Command, kind: string, word: string | undefined): void {
  const known = command.commands.flatMap((c) => [c.name(), ...c.aliases()])
  if (word === undefined || known.includes(word)) return
  if (word.startsWith('-')) throw usageError(`unknown option '${word}'`, `mnc ${command.name()} --help lists them`)
  const near = nearest(word, known)
  throw usageError(`unknown ${kind} '${word}'${near ? `, did you mean '${near}'?` : ''}`)
}

function globalOptions(program: Command): GlobalOptions {
  const { json = false, quiet = false, verbose = false, seed = '0' } = program.opts()
  if (!/^\d+$/.test(String(seed)) || !Number.isSafeInteger(Number(seed)))
    throw new MncError(`--seed must be a whole number, not '${seed}'`, { code: 'bad-usage', blame: 'user' })
  return { json, quiet, verbose, seed: Number(seed) }
}

interface Failure {
  readonly exit: number
  readonly message: string
  readonly error?: MncError
}

/** What went wrong, for a person and a shell; null where help or the version was asked for. */
function failureOf(error: unknown): Failure | null {
  if (error instanceof CommanderError) {
    if (error.exitCode === 0) return null
    // help was shown for want of a command
    const message = error.code === 'commander.help' ? 'no command is given' : error.message.replace(/^error: /, '')
    return { exit: EXIT.badInput, message }
  }
  if (error instanceof MncError) return { exit: EXITS[error.blame], message: error.describe(), error }
  const message = error instanceof Error ? error.message : String(error)
  if (error instanceof RangeError && NO_MEMORY.test(message)) {
    const what = 'the model needs more memory than there is: a tensor of its shapes cannot be allocated'
    return { exit: EXIT.badInput, message: `${what} (${message})` }
  }
  if (systemReason(error) !== null) return { exit: EXIT.badInput, message }
  return { exit: EXIT.bug, message: `${message} (a bug in mnc; MNC_DEBUG=1 shows where)` }
}

const EXITS: Readonly<Record<MncError['blame'], number>> = {
  user: EXIT.badInput,
  model: EXIT.badInput,
  pass: EXIT.bug,
  gate: EXIT.gate,
  interrupt: EXIT.interrupted,
}

/**
 * Reports what went wrong on stderr and returns the exit code. With --json standard output gets a document all the same, unless
 * the command has given its own: a gate fails after measuring.
 */
function report(error: unknown, { argv, io, stdout, stderr }: Call): number {
  const failure = failureOf(error)
  if (!failure) return EXIT.ok
  const say = (text: string): void => void stderr.write(`${fitText(`mnc: ${text}`, widthOfStream(stderr))}\n`)
  const debug = process.env.MNC_DEBUG ? Number(process.env.MNC_DEBUG) > 0 : false
  if (debug && error instanceof Error) say(inspect(error))
  const { exit, message, error: known } = failure
  if (known?.code === reportedElsewhere().code) return exit
  if (!(error instanceof CommanderError)) say(message) // commander has reported it
  if (argv.includes('--json') && !io?.answered) {
    const { code = exit === EXIT.bug ? 'internal' : 'bad-usage', file = null, node = null, next = null } = known ?? {}
    const shown = { code, exit, message: known?.message ?? message, file, node, next, stage: known?.stage ?? null }
    stdout.write(`${JSON.stringify({ error: shown }, null, 2)}\n`)
  }
  return exit
}

/** Runs one command line (without `node mnc`) and returns the exit code. */
export async function runCommandLine(argv: readonly string[], { stdout, stderr }: Streams = process): Promise<number> {
  const call: Call = { argv, stdout, stderr }
  try {
    const program = await makeProgram(call)
    await program.parseAsync([...argv], { from: 'user' })
    return EXIT.ok
  } catch (error) {
    return report(error, call)
  }
}
