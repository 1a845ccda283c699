/** What a command communicates through: stdout carries data, stderr everything else. */
import { Writable } from 'node:stream'
import { Progress } from './progress.ts'
import { fitText, widthOfStream } from './wrap.ts'

export interface GlobalOptions {
  readonly json: boolean
  readonly quiet: boolean
  readonly verbose: boolean
  readonly seed: number
  /** The command line, for commands that start themselves again. */
  readonly words?: readonly string[]
}

export class CommandIO implements GlobalOptions {
  readonly json: boolean
  readonly quiet: boolean
  readonly verbose: boolean
  readonly seed: number
  readonly words: readonly string[]
  readonly #out: Writable
  readonly #err: Writable
  #answered = false

  constructor(options: GlobalOptions, out: Writable = process.stdout, err: Writable = process.stderr) {
    this.json = options.json
    this.quiet = options.quiet
    this.verbose = options.verbose
    this.seed = options.seed
    this.words = options.words ?? []
    this.#out = out
    this.#err = err
  }

  /** Whether standard output has the result. */
  get answered(): boolean {
    return this.#answered
  }

  /**
   * The command's result: `value` as one JSON document with --json, else `text`. Called once per run. A function gets the
   * columns of the terminal, and what it returns is fitted to them; a string is written as it is.
   */
  result(value: unknown, text: string | ((width: number) => string)): void {
    this.#answered = true
    const width = widthOfStream(this.#out)
    const shown = this.json
      ? JSON.stringify(value, null, 2)
      : typeof text === 'string'
        ? text
        : fitText(text(width), width)
    if (shown !== '') this.#out.write(shown.endsWith('\n') ? shown : `${shown}\n`)
  }

  /** The result of a command that wrote `path`: the path, unless the model itself went to standard output. */
  wrote(path: string, facts: Readonly<Record<string, unknown>> = {}): void {
    if (path === '-') return
    this.result({ output: path, ...facts }, path)
  }

  /** A line of progress or a warning, for people. */
  log(message: string | ((width: number) => string)): void {
    if (this.quiet) return
    const width = widthOfStream(this.#err)
    this.#err.write(`${fitText(typeof message === 'string' ? message : message(width), width)}\n`)
  }

  /** Like `log`, but no message is repeated. */
  once(): (message: string) => void {
    const said = new Set<string>()
    return (message) => {
      if (!said.has(message)) this.log(message)
      said.add(message)
    }
  }

  /** A line for -v only. */
  detail(message: string): void {
    if (this.verbose) this.log(message)
  }

  /** The same command without a word. */
  silent(): CommandIO {
    const nowhere = new Writable({ write: (_chunk, _encoding, done) => done() })
    const { json, verbose, seed } = this
    return new CommandIO({ json, quiet: true, verbose, seed }, nowhere, nowhere)
  }

  /** A bar with the time left on a terminal; a line now and then elsewhere; nothing with --quiet. */
  progress(label: string, total: number): Progress {
    return new Progress(label, total, this.quiet ? null : this.#err)
  }
}
