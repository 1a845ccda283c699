/**
 * onnxruntime in a process of its own, for untrusted files that are run to learn something about them (shapes, values
 * of constants): such a file can make the engine abort, loop forever, or take all memory, on the thread that calls it.
 * The process is started at the first request, serves one request after the other, does not keep the program alive, and
 * is replaced if it dies.
 *
 * Limits (probe-options.ts): a time for each request, --probe-seconds, and half of the machine's memory. A model error,
 * code `probe-failed`, says which limit was exceeded; callers go on without the answer, or pass the error on.
 */
import { type ChildProcess, spawn } from 'node:child_process'
import { readFileSync } from 'node:fs'
import type { Duplex } from 'node:stream'
import { fileURLToPath } from 'node:url'
import { type Blame, MncError, modelError } from '../../base/errors.ts'
import { type Frame, readFrames, sendFrame } from '../../base/frames.ts'
import { parseModel } from '../../codec/text-parse.ts'
import { requireInlinable } from '../../graph/function-size.ts'
import type { Model } from '../../graph/model.ts'
import type { Tensor } from '../../graph/tensor.ts'
import type { LoadOptions, Session } from '../executor.ts'
import { foreignOperator } from '../foreign-operator.ts'
import type { OutputType } from '../ort-session.ts'
import { probeLimits } from '../probe-options.ts'
import { engineBytes } from './engine-bytes.ts'
import type { Request } from './serve.ts'
import { packTensors, type TensorHead, unpackTensors } from './tensor-frames.ts'

/** Next to the chunks that the build writes; in the sources, the script that starts the TypeScript one. */
const script = import.meta.url.endsWith('.ts') ? './isolated-child.dev.mjs' : './isolated-child.js'

/** Whether a run failed because of what the model does to the process, rather than because the engine refused it. */
export const isProbeFailure = (error: unknown): boolean => error instanceof MncError && error.code === 'probe-failed'

const failed = (what: string, next?: string): MncError => modelError('probe-failed', what, { next })

interface Reply {
  readonly error?: { message: string; code: string; blame: Blame; node?: string; next?: string }
}

interface Waiting {
  readonly resolve: (frame: Frame) => void
  readonly reject: (error: MncError) => void
}

class Helper {
  readonly #child: ChildProcess
  readonly #pipe: Duplex
  #waiting: Waiting | null = null
  /** Its first message, once it has started: starting does not count against the time for answers. */
  readonly #started: Promise<Frame>
  #reason: MncError | null = null
  /** Memory that it may take. */
  readonly bytes: number
  ended = false

  constructor() {
    this.bytes = probeLimits().bytes
    this.#child = spawn(process.execPath, [fileURLToPath(new URL(script, import.meta.url)), String(this.bytes)], {
      stdio: ['ignore', 'ignore', 'ignore', 'pipe'],
      windowsHide: true,
    })
    this.#pipe = this.#child.stdio[3] as Duplex
    readFrames(this.#pipe, (frame) => this.#settle((w) => w.resolve(frame)))
    this.#pipe.on('error', () => {})
    this.#started = this.#next()
    // requests report it
    this.#started.catch(() => {})
    this.#child.on('error', (cause) =>
      this.#gone(failed(`the process that runs models cannot be started: ${cause.message}`)),
    )
    this.#child.on('exit', (code, signal) => this.#gone(this.#reason ?? this.#causeOf(code, signal)))
    this.#idle()
  }

  /** Its peak memory so far, in bytes; null where the system does not say. */
  get peak(): number | null {
    try {
      const line = /^VmHWM:\s+(\d+) kB/m.exec(readFileSync(`/proc/${this.#child.pid}/status`, 'utf8'))
      return line ? Number(line[1]) * 1024 : null
    } catch {
      return null
    }
  }

  async ask(json: Request, parts: readonly Uint8Array[]): Promise<Frame> {
    if (this.ended) throw this.#reason ?? failed('the process that ran it has exited')
    this.#child.ref()
    await this.#started
    const { seconds } = probeLimits()
    const timer = setTimeout(() => {
      this.end(
        failed(`running the model took more than ${seconds} s`, 'raise --probe-seconds if it merely needs longer'),
      )
    }, seconds * 1000)
    try {
      sendFrame(this.#pipe, { json, parts })
      return await this.#next()
    } finally {
      clearTimeout(timer)
      this.#idle()
    }
  }

  #next(): Promise<Frame> {
    return new Promise((resolve, reject) => {
      this.#waiting = { resolve, reject }
    })
  }

  end(reason: MncError | null = null): void {
    this.#reason ??= reason
    this.ended = true
    this.#child.kill('SIGKILL')
  }

  #gone(reason: MncError): void {
    this.ended = true
    this.#settle((w) => w.reject(reason))
  }

  #settle(how: (waiting: Waiting) => void): void {
    const waiting = this.#waiting
    this.#waiting = null
    if (waiting) how(waiting)
  }

  #causeOf(code: number | null, signal: NodeJS.Signals | null): MncError {
    if (signal === 'SIGKILL')
      return failed(`running the model took more than ${(this.bytes / 2 ** 30).toFixed(1)} GiB of memory`)
    return failed(`the model makes onnxruntime abort (${signal ?? `exit ${code}`})`)
  }

  /** Lets the program end while no request is under way. */
  #idle(): void {
    this.#child.unref()
    if ('unref' in this.#pipe && typeof this.#pipe.unref === 'function') this.#pipe.unref()
  }
}

let helper: Helper | null = null
let last: Promise<unknown> = Promise.resolve()
process.on('exit', () => helper?.end())

/** Starts the process in the background, for commands that are about to need it. */
export function startProbing(): void {
  if (helper && helper.bytes !== probeLimits().bytes) helper.end()
  if (!helper || helper.ended) helper = new Helper()
}

/**
 * Bytes that loading a model and running it once adds to a process at its peak, the engine itself not counted; null where
 * the system does not say (all but Linux).
 */
export async function peakMemory(
  model: Model,
  feeds: Readonly<Record<string, Tensor>>,
  options: LoadOptions = {},
): Promise<number | null> {
  const own = new Helper()
  try {
    // the engine is loaded with the first model
    const tiny = parseModel(
      'onnx {ir_version=8}\nopset ai.onnx=17\ngraph "g"\n  input %x : float32[1]\n  %y : float32[1] = Relu(%x)\n  output %y\nend\n',
    )
    const load = (m: Model, id: number): Promise<Frame> =>
      own.ask({ do: 'load', id, options: { quiet: true, ...options } }, [engineBytes(m, options)])
    await load(tiny, 0)
    const before = own.peak
    await load(model, 1)
    const { heads, parts } = packTensors(feeds)
    await own.ask({ do: 'run', id: 1, feeds: heads }, parts)
    const after = own.peak
    return before === null || after === null ? null : after - before
  } finally {
    own.end()
  }
}

/** One request, after those under way. `to`: the process that has the session; the present one by default. */
function ask(json: Request, parts: readonly Uint8Array[] = [], to?: Helper): Promise<Frame & { helper: Helper }> {
  const answer = last.then(async () => {
    if (!to) startProbing()
    const by = to ?? helper!
    const frame = await by.ask(json, parts)
    const { error } = frame.json as Reply
    if (error) throw new MncError(error.message, error)
    return { ...frame, helper: by }
  })
  last = answer.catch(() => {})
  return answer
}

/** What a model needs is checked before its bytes are sent; what the engine refuses is explained. */
async function askAbout(model: Model, json: Request): Promise<Frame & { helper: Helper }> {
  requireInlinable(model)
  try {
    return await ask(json, [engineBytes(model, json.do === 'load' ? json.options : {})])
  } catch (error) {
    throw isProbeFailure(error) ? error : (foreignOperator(model) ?? error)
  }
}

/** Types and shapes of a model's outputs as onnxruntime sees them; nothing is computed. */
export async function isolatedTypes(model: Model): Promise<readonly OutputType[]> {
  const { json } = await askAbout(model, { do: 'types' })
  return (json as { types: OutputType[] }).types
}

export type IsolatedSession = Pick<Session, 'outputNames' | 'run' | 'dispose'>

let ids = 0

/** A session in the separate process, of the CPU provider. */
export async function loadIsolated(model: Model, options: LoadOptions = {}): Promise<IsolatedSession> {
  const id = ids++
  const loaded = await askAbout(model, { do: 'load', id, options: { quiet: true, ...options } })
  return {
    outputNames: (loaded.json as { outputNames: string[] }).outputNames,
    async run(feeds: Readonly<Record<string, Tensor>>, fetch?: readonly string[]) {
      const { heads, parts } = packTensors(feeds)
      const reply = await ask({ do: 'run', id, feeds: heads, ...(fetch && { fetch }) }, parts, loaded.helper)
      return unpackTensors((reply.json as { tensors: TensorHead[] }).tensors, reply.parts)
    },
    async dispose() {
      if (!loaded.helper.ended) await ask({ do: 'dispose', id }, [], loaded.helper)
    },
  }
}
