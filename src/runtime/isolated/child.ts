/**
 * The process that runs untrusted models (engine.ts starts it; serve.ts does the work), and the thread in it that watches
 * it: it kills the process if that exceeds its memory limit, or if the process that started it is gone, even when
 * onnxruntime never returns.
 */
import { Worker } from 'node:worker_threads'
import { serve } from './serve.ts'

const WATCH_MS = 50

/** A string, so that the thread loads nothing: it has to be running before the first model arrives. */
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

new Worker(watch, { eval: true, workerData: { parent: process.ppid, bytes: Number(process.argv[2]) } }).unref()
serve()
