/**
 * A thread that receives SIGINT and SIGTERM while the main one is inside onnxruntime, where no listener runs: after two
 * seconds it says what the command is waiting for, and at the second signal it ends the process if the main thread does
 * not. It does so by SIGKILL, which loses nothing: files are written under other names until they are complete, and no
 * step writes any.
 *
 * Node gives signals to the main thread's listeners only; the internal binding that they are built on works in any thread
 * (deprecated, silent here). Does not apply where a version of Node no longer has it: then a signal waits for the end of
 * the step.
 */
import { Worker } from 'node:worker_threads'

/** The time that the main thread gets to end by itself, once it receives a signal. */
const PATIENCE_MS = 2000

/** A string, so that the thread loads nothing. */
const thread = `
const { heard, patience, message } = require('node:worker_threads').workerData
let count = 0
const onSignal = () => {
  count++
  if (count === 1)
    setTimeout(() => {
      if (Atomics.load(heard, 0) === 0) require('node:fs').writeSync(2, message)
    }, patience)
  else setTimeout(() => process.kill(process.pid, 'SIGKILL'), patience)
}
// of this thread alone
process.noDeprecation = true
try {
  const { Signal } = process.binding('signal_wrap')
  const { SIGINT, SIGTERM } = require('node:os').constants.signals
  for (const number of [SIGINT, SIGTERM]) {
    const signal = new Signal()
    signal.onsignal = onSignal
    signal.start(number)
  }
} catch {}
`

const message =
  '\nmnc: a checkpoint will be written when the current step ends; a second signal ends the command without one\n'

export interface SignalThread {
  /** The main thread has received a signal. */
  answer(): void
  close(): void
}

export function startSignalThread(): SignalThread {
  const heard = new Int32Array(new SharedArrayBuffer(4))
  const workerData = { heard, patience: PATIENCE_MS, message }
  const worker = new Worker(thread, { eval: true, workerData, execArgv: [], name: 'mnc-signals' })
  worker.unref()
  // it is optional: without memory for a thread the run continues
  worker.on('error', () => {})
  return {
    answer: () => void Atomics.store(heard, 0, 1),
    close: () => void worker.terminate(),
  }
}
