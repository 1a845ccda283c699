/** A loader thread: fills slots of the shared ring as `LoaderPool` asks for them. */
import { parentPort, workerData } from 'node:worker_threads'
import { bugError, MncError, type MncErrorDetails } from '../base/errors.ts'
import { BatchFiller, type FillerJob } from './batch-filler.ts'

/** One place of the ring, over shared memory. */
export interface Slot {
  readonly images: Float32Array
  readonly labels: Int32Array
}

export interface WorkerSetup {
  readonly job: FillerJob
  readonly slots: readonly Slot[]
}

/** A step that is done, or the error that it ended in: an error's class does not cross between threads. */
export type LoaderMessage = number | (MncErrorDetails & { readonly message: string })

const port = parentPort
if (!port) throw bugError('the loader thread was started as a program')
const { job, slots } = workerData as WorkerSetup
const filler = new BatchFiller(job)
let last: Promise<void> = Promise.resolve()
port.on('message', (step: number) => {
  last = last.then(() => fill(step))
})

/** One step after the other; errors are sent for the caller to throw. */
async function fill(step: number): Promise<void> {
  const slot = slots[step % slots.length]!
  let message: LoaderMessage = step
  try {
    await filler.fill(step, slot.images, slot.labels)
  } catch (error) {
    if (!(error instanceof MncError)) throw error
    const { code, blame, file, next } = error
    message = { code, blame, file, next, message: error.message }
  }
  port!.postMessage(message)
}
