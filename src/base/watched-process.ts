/**
 * For a process that does what might go wrong: a thread in it that ends it when it takes more memory than it may, or when the
 * process that started it is gone, even where a native call never returns.
 */
import { Worker } from 'node:worker_threads'

const WATCH_MS = 50

/** A string, so that the thread loads nothing: it has to be running before the work begins. */
const watch = `
const { parent, bytes } = require('node:worker_threads').workerData
const isAlone = () => {
  if (process.ppid !== parent) return true
  try {
    process.kill(parent, 0)
    return false
  } catch {
    return true
  }
}
setInterval(() => {
  if (process.memoryUsage.rss() > bytes || isAlone()) process.kill(process.pid, 'SIGKILL')
}, ${WATCH_MS})
`

/** `bytes`: of memory that this process may take. */
export function watchProcess(bytes: number): void {
  new Worker(watch, { eval: true, workerData: { parent: process.ppid, bytes } }).unref()
}
