/**
 * The process that runs strangers' models (engine.ts starts it; serve.ts does the work), and the thread in it that watches
 * it: it ends the process where that takes more memory than it may, or where the one that started it is gone, though
 * onnxruntime never returns.
 */
import { isMainThread, Worker, workerData } from 'node:worker_threads'

const WATCH_MS = 50

function watch({ parent, bytes }: { readonly parent: number; readonly bytes: number }): void {
  const isAlone = (): boolean => {
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
  }, WATCH_MS)
}

if (isMainThread) {
  new Worker(process.argv[1]!, { workerData: { parent: process.ppid, bytes: Number(process.argv[2]) } }).unref()
  const { serve } = await import('./serve.ts')
  serve()
} else watch(workerData)
