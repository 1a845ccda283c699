/** A loader thread: fills slots of the shared ring as `LoaderPool` asks for them. */
import { parentPort, workerData } from 'node:worker_threads'
import { bugError } from '../errors.ts'
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

const port = parentPort
if (!port) throw bugError('the loader thread was started as a program')
const { job, slots } = workerData as WorkerSetup
const filler = new BatchFiller(job)
port.on('message', (step: number) => {
  const slot = slots[step % slots.length]!
  filler.fill(step, slot.images, slot.labels)
  port.postMessage(step)
})
