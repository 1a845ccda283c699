/**
 * Signals. A listener is heard only between turns of the event loop, and onnxruntime or a long computation may hold the
 * thread forever: so there is no listener, and the system ends the process at once, except while there are temporary
 * files to remove, or training steps to save. Then a thread listens too, in case a step does not end.
 */
import { dropTemporaries, watchTemporaries } from '../base/files.ts'
import { endWithParent } from '../base/watched-process.ts'
import { type SignalThread, startSignalThread } from './signal-thread.ts'

const EXIT_CODES = { SIGINT: 130, SIGTERM: 143, SIGHUP: 129 } as const

/** An interrupted command leaves no half-written file. For the command line only, which owns its process. */
export function endOnSignals(): void {
  endWithParent()
  const listeners = Object.entries(EXIT_CODES).map(([signal, code]) => {
    const end = (): void => {
      // a training run that saves itself first removes them too
      if (process.listenerCount(signal) > 1) return
      dropTemporaries()
      process.exit(code)
    }
    return [signal, end] as const
  })
  watchTemporaries((some) => {
    for (const [signal, end] of listeners)
      if (some) process.on(signal, end)
      else process.off(signal, end)
  })
}

export interface Interruptible {
  /** Aborted by SIGINT or SIGTERM while armed. */
  readonly signal: AbortSignal
  /** From now on there is something to save: signals end the run after a checkpoint, a second one at once. */
  arm(): void
  /** There is nothing left to save: signals end the process at once. */
  disarm(): void
}

export function interruptible(): Interruptible {
  const controller = new AbortController()
  let thread: SignalThread | null = null
  const stop = (): void => {
    thread?.answer()
    if (controller.signal.aborted) {
      dropTemporaries()
      process.exit(EXIT_CODES.SIGINT)
    }
    controller.abort()
  }
  const set = (on: boolean): void => {
    if (on === (thread !== null)) return
    thread?.close()
    thread = on ? startSignalThread() : null
    for (const signal of ['SIGINT', 'SIGTERM'] as const)
      if (on) process.on(signal, stop)
      else process.off(signal, stop)
  }
  return { signal: controller.signal, arm: () => set(true), disarm: () => set(false) }
}
