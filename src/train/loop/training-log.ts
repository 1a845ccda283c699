/**
 * The loss curve as JSON lines: one object per step, `{step, epoch, loss, lr, imagesPerSecond}` (step from 0, loss before
 * that step's update; `losses` of each output where several have one), and one per epoch, `{epoch, valLoss, valTop1}`, with `valMetric` where
 * that is not accuracy. In
 * mixed precision a step has its `lossScale`, and `skipped: true` where its gradient overflowed.
 */
import { existsSync } from 'node:fs'
import { type FileHandle, open, readFile } from 'node:fs/promises'
import { reading, writeFileAtomic, writing } from '../../base/files.ts'
import type { TrainEvent } from './trainer.ts'

export class TrainingLog {
  readonly #path: string
  #file: FileHandle | null = null

  constructor(path: string) {
    this.#path = path
  }

  /** Writes the line for the event, if there is one. A run that continues from step n keeps the lines before it. */
  async write(event: TrainEvent): Promise<void> {
    if (event.kind === 'start') await this.#start(event.step)
    else if (event.kind === 'step') {
      const { step, epoch, loss, losses, lr, imagesPerSecond, lossScale } = event
      const skipped = lossScale !== undefined && !Number.isFinite(event.gradientNorm)
      await this.#line({ step, epoch, loss, losses, lr, imagesPerSecond, lossScale, ...(skipped && { skipped }) })
    } else if (event.kind === 'epoch') {
      const { epoch, valLoss, valTop1, valMetric } = event
      await this.#line({ epoch, valLoss, valTop1, ...(valMetric && { valMetric }) })
    }
  }

  async close(): Promise<void> {
    await writing(this.#path, async () => this.#file?.close())
    this.#file = null
  }

  async #start(step: number): Promise<void> {
    const kept = step === 0 ? '' : await linesBefore(this.#path, step)
    await writeFileAtomic(this.#path, kept)
    this.#file = await writing(this.#path, () => open(this.#path, 'a'))
  }

  async #line(entry: object): Promise<void> {
    await writing(this.#path, async () => this.#file?.appendFile(`${JSON.stringify(entry)}\n`))
  }
}

/** A run that was killed may have logged steps after its last checkpoint; they will be repeated. */
async function linesBefore(path: string, step: number): Promise<string> {
  const text = existsSync(path) ? await reading(path, () => readFile(path, 'utf8')) : ''
  const lines = text.split('\n').filter((l) => l !== '')
  const end = lines.findIndex((l) => stepOf(l) >= step)
  return (end < 0 ? lines : lines.slice(0, end)).map((l) => `${l}\n`).join('')
}

/** A line cut short counts as after every checkpoint. */
function stepOf(line: string): number {
  try {
    const entry: unknown = JSON.parse(line)
    return typeof entry === 'object' && entry !== null && 'step' in entry ? Number(entry.step) : -1
  } catch {
    return Number.POSITIVE_INFINITY
  }
}
