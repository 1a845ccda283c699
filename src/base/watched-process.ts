/**
 * For a process that does what might go wrong: a thread in it that ends it when it takes more memory than it may, or when the
 * process that started it is gone, even where a native call never returns.
 */
import { Worker } from 'node:worker_threads'

const WATCH_MS = 50

/** A string, so that the thread loads nothing: it has to be running before the work begins. */
const watch = `
const { parent, bytes, signal } = require('node:worker_threads').workerData
const isAlone = () => {
  if (process.ppid !== parent) return true
  try {
    process.kill(parent, 0)
    return false
  } catch {
    return true
  }
}
const timer = setInterval(() => {
  if (process.memoryUsage.rss() > bytes) process.kill(process.pid, 'SIGKILL')
  if (!isAlone()) return
  clearInterval(timer)
  process.kill(process.pid, signal)
}, ${WATCH_MS})
`

/** `bytes`: of memory that this process may take. */
export function watchProcess(bytes: number): void {
  begin(bytes, 'SIGKILL')
}

/** The environment variable of a process that is to end, with what it has to save, when the one that started it is gone. */
export const WITH_PARENT = 'MNC_ENDS_WITH_PARENT'

export function endWithParent(): void {
  if (process.env[WITH_PARENT] !== undefined) begin(Number.POSITIVE_INFINITY, 'SIGTERM')
}

function begin(bytes: number, signal: NodeJS.Signals): void {
  new Worker(watch, { eval: true, workerData: { parent: process.ppid, bytes, signal } }).unref()
}
