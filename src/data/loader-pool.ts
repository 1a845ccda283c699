/**
 * Loader threads and the ring of shared batches that they fill. Step s goes to thread s mod n and to slot s mod size;
 * the caller keeps fewer steps under way than there are slots.
 */
import { Worker } from 'node:worker_threads'
import { bugError, MncError } from '../base/errors.ts'
import { systemReason } from '../base/files.ts'
import type { FillerJob } from './batch-filler.ts'
import type { LoaderMessage, Slot, WorkerSetup } from './loader-worker.ts'

/** Next to this file: the built worker, or in the sources the script that starts the TypeScript one. */
const script = import.meta.url.endsWith('.ts') ? './loader-worker.dev.mjs' : './loader-worker.js'
const workerFile = new URL(script, import.meta.url)

/** Batches in the ring: two per thread keep it busy while one batch is being read. */
export const slotsOf = (threads: number): number => 2 * threads + 1

export class LoaderPool {
  readonly slots: readonly Slot[]
  readonly #workers: readonly Worker[]
  readonly #ready = new Set<number>()
  #waiting: { step: number; resolve: () => void; reject: (e: MncError) => void } | null = null
  #failure: MncError | null = null

  constructor(job: FillerJob, threads: number, batchFloats: number) {
    this.slots = Array.from({ length: slotsOf(threads) }, () => ({
      images: new Float32Array(new SharedArrayBuffer(batchFloats * 4)),
      labels: new Int32Array(new SharedArrayBuffer(job.batchSize * 4)),
    }))
    const setup: WorkerSetup = { job, slots: this.slots }
    this.#workers = Array.from({ length: threads }, () => {
      const worker = new Worker(workerFile, { workerData: setup, name: 'mnc-loader' })
      worker.on('message', (message: LoaderMessage) => {
        if (typeof message === 'number') this.#arrived(message)
        else this.#fail(new MncError(message.message, message))
      })
      worker.on('error', (cause) => this.#fail(threadError(cause)))
      worker.on('exit', (code) => this.#fail(bugError(`a loader thread ended early (exit ${code})`)))
      return worker
    })
  }

  /** Starts making a batch. */
  request(step: number): void {
    this.#workers[step % this.#workers.length]!.postMessage(step)
  }

  /** The slot of a requested step, once it is filled; its contents stay until `request(step + slots.length)`. */
  async take(step: number): Promise<Slot> {
    if (this.#failure) throw this.#failure
    if (!this.#ready.delete(step)) {
      await new Promise<void>((resolve, reject) => {
        this.#waiting = { step, resolve, reject }
      })
      this.#ready.delete(step)
    }
    return this.slots[step % this.slots.length]!
  }

  async close(): Promise<void> {
    this.#failure ??= bugError('the loader was closed')
    await Promise.all(this.#workers.map((w) => w.terminate()))
  }

  #arrived(step: number): void {
    this.#ready.add(step)
    if (this.#waiting?.step !== step) return
    this.#waiting.resolve()
    this.#waiting = null
  }

  #fail(failure: MncError): void {
    this.#failure ??= failure
    this.#waiting?.reject(this.#failure)
    this.#waiting = null
  }
}

/** What ended a thread: the machine's limits are the user's to change, the rest is a bug. */
function threadError(cause: Error): MncError {
  const isMemory = 'code' in cause && cause.code === 'ERR_WORKER_OUT_OF_MEMORY'
  const reason = isMemory ? 'there is not enough memory for it' : systemReason(cause)
  if (reason === null) return bugError(`a loader thread failed: ${cause.message}`, { cause })
  const next = isMemory ? 'lower --workers or --batch' : undefined
  return new MncError(`a loader thread failed: ${reason}`, { code: 'loader-failed', blame: 'user', cause, next })
}
