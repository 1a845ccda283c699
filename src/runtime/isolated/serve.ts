/** Answers requests of engine.ts, in the process that isolated-child.ts starts: runs untrusted models. */
import { Socket } from 'node:net'
import { MncError } from '../../base/errors.ts'
import { type Frame, readFrames, sendFrame } from '../../base/frames.ts'
import type { LoadOptions, Session } from '../executor.ts'
import { createSession, loadEngine, outputTypes } from '../ort-session.ts'
import { packTensors, type TensorHead, unpackTensors } from './tensor-frames.ts'

/** What engine.ts asks for. Model bytes and tensors are the frame's parts. */
export type Request =
  | { readonly do: 'types' }
  | { readonly do: 'load'; readonly id: number; readonly options: LoadOptions }
  | {
      readonly do: 'run'
      readonly id: number
      readonly feeds: readonly TensorHead[]
      readonly fetch?: readonly string[]
    }
  | { readonly do: 'dispose'; readonly id: number }

/** The pipe to the process that asks. */
const PIPE = 3

const sessions = new Map<number, Session>()

async function answer(request: Request, parts: readonly Uint8Array[]): Promise<Frame> {
  if (request.do === 'types') return { json: { types: await outputTypes(parts[0]!) }, parts: [] }
  if (request.do === 'load') {
    const session = await createSession(parts[0]!, request.options, ['cpu'])
    sessions.set(request.id, session)
    return { json: { outputNames: session.outputNames }, parts: [] }
  }
  const session = sessions.get(request.id)!
  if (request.do === 'run') {
    const { heads, parts: bytes } = packTensors(await session.run(unpackTensors(request.feeds, parts), request.fetch))
    return { json: { tensors: heads }, parts: bytes }
  }
  sessions.delete(request.id)
  await session.dispose()
  return { json: {}, parts: [] }
}

/** An error as JSON. */
function plain(error: unknown): object {
  if (!(error instanceof MncError)) return { error: { message: String(error), code: 'internal', blame: 'pass' } }
  const { message, code, blame, node, next } = error
  return { error: { message, code, blame, node, next } }
}

export function serve(): void {
  const pipe = new Socket({ fd: PIPE })
  // one at a time: the engine blocks this thread anyway
  let last = Promise.resolve()
  readFrames(pipe, ({ json, parts }) => {
    last = last.then(async () => {
      const reply = await answer(json as Request, parts).catch((error: unknown) => ({ json: plain(error), parts: [] }))
      sendFrame(pipe, reply)
    })
  })
  // requests that come before are read after it
  last = loadEngine().then(() => sendFrame(pipe, { json: 'started', parts: [] }))
  pipe.on('close', () => process.exit(0))
  pipe.on('error', () => process.exit(0))
  // Ctrl-C reaches the whole group; the process that started this one decides
  for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP']) process.on(signal, () => {})
}
