/**
 * The one error class. `blame` decides the exit code of the command line: a fault in what the user typed or in the model
 * is exit 2; a pass that broke a graph is a bug, exit 1; a gate that failed is exit 3; an interrupted run is exit 130.
 */
export type Blame = 'user' | 'model' | 'pass' | 'gate' | 'interrupt'

/** What an error carries besides its message. */
export interface MncErrorDetails {
  /** Stable identifier for programs, kebab-case, e.g. `unknown-op`. */
  readonly code: string
  readonly blame: Blame
  /** The file concerned, as the user wrote it. */
  readonly file?: string | undefined
  /** The node concerned: its name, or `op#index` where it has none. */
  readonly node?: string | undefined
  /** What to do about it: one sentence. */
  readonly next?: string | undefined
  readonly cause?: unknown
}

/** Messages quote names from foreign files, which may contain anything and be of any length. */
const LONGEST = 600

function oneLine(text: string): string {
  const plain = text.replace(/[\p{Cc}\u2028\u2029]/gu, (c) => `\\u${c.charCodeAt(0).toString(16).padStart(4, '0')}`)
  return plain.length <= LONGEST ? plain : `${plain.slice(0, LONGEST * 0.75)} ... ${plain.slice(-LONGEST / 4)}`
}

/** Every error of mnc: `code` says which it is, `blame` who can do something about it, `file` and `node` where. `String(error)` says all of it. */
export class MncError extends Error {
  readonly code: string
  readonly blame: Blame
  readonly file: string | undefined
  readonly node: string | undefined
  readonly next: string | undefined
  /** The stage of a pipeline that it comes from, `export/strip`; set by who runs the stages. */
  stage: string | undefined

  constructor(message: string, details: MncErrorDetails) {
    super(message, details.cause === undefined ? undefined : { cause: details.cause })
    this.name = 'MncError'
    this.code = details.code
    this.blame = details.blame
    this.file = details.file
    this.node = details.node
    this.next = details.next
    this.stage = undefined
  }

  /** One line for a person: file, node, what is wrong, what to do. */
  describe(): string {
    const where = [this.file, this.node && `node '${this.node}'`].filter(Boolean).join(', ')
    const message = oneLine(where ? `${where}: ${this.message}` : this.message)
    const said = this.next ? `${message} (${this.next})` : message
    // a pass names itself where the user called it
    const isShown = this.stage && (this.blame === 'pass' || !this.stage.startsWith('pass/'))
    return isShown ? `${said} [${this.stage}]` : said
  }

  /** What `String(error)` gives: all that it says. */
  override toString(): string {
    return `${this.name} (${this.code}): ${this.describe()}`
  }

  /** The same error with the file it happened in, for callers that know the path. */
  inFile(file: string): MncError {
    if (this.file !== undefined) return this
    const { message, code, blame, node, next, cause, stage } = this
    return Object.assign(new MncError(message, { code, blame, file, node, next, cause }), { stage })
  }
}

/** Bad usage: the user asked for something impossible. */
export function usageError(message: string, next?: string): MncError {
  return new MncError(message, { code: 'bad-usage', blame: 'user', next })
}

/** Another process of the same job says what is wrong: this one ends without a word. */
export function reportedElsewhere(): MncError {
  return new MncError('another rank reports what is wrong', { code: 'reported-elsewhere', blame: 'user' })
}

/** The model is at fault: malformed, or it contains something that the operation cannot handle. */
export function modelError(code: string, message: string, details: Partial<MncErrorDetails> = {}): MncError {
  return new MncError(message, { blame: 'model', ...details, code })
}

/** mnc is at fault. */
export function bugError(message: string, details: Partial<MncErrorDetails> = {}): MncError {
  return new MncError(message, { code: 'internal', blame: 'pass', ...details })
}
