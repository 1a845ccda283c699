/** Progress of one long job on stderr: a bar redrawn in place on a terminal, a plain line at most every 10 s elsewhere. */
import type { Writable } from 'node:stream'

const WIDTH = 24
const REDRAW_MS = 100
const LINE_MS = 10_000

export class Progress {
  readonly #label: string
  readonly #total: number
  readonly #stream: Writable | null
  readonly #live: boolean
  readonly #start = performance.now()
  #shown: number

  constructor(label: string, total: number, stream: Writable | null) {
    this.#label = label
    this.#total = total
    this.#stream = stream
    this.#live = stream !== null && 'isTTY' in stream && stream.isTTY === true
    this.#shown = this.#live ? Number.NEGATIVE_INFINITY : this.#start
  }

  /** `done` of the total is finished; `note` follows it (a loss, a rate). */
  update(done: number, note = ''): void {
    const now = performance.now()
    if (!this.#stream || now - this.#shown < (this.#live ? REDRAW_MS : LINE_MS)) return
    this.#shown = now
    this.#stream.write(this.#live ? `\r\x1b[K${this.#line(done, note)}` : `${this.#line(done, note)}\n`)
  }

  /** Removes the bar. */
  end(): void {
    if (this.#live) this.#stream?.write('\r\x1b[K')
  }

  #line(done: number, note: string): string {
    const share = this.#total > 0 ? Math.min(1, done / this.#total) : 0
    const seconds = (performance.now() - this.#start) / 1000
    const left = share > 0 ? `${formatDuration((seconds / share) * (1 - share))} left` : ''
    const filled = Math.round(share * WIDTH)
    const bar = this.#live ? `[${'='.repeat(filled)}${' '.repeat(WIDTH - filled)}]` : ''
    return [this.#label, bar, `${done}/${this.#total}`, note, left].filter(Boolean).join('  ')
  }
}

/** `7 s`, `3 min 20 s`, `2 h 5 min`. */
export function formatDuration(seconds: number): string {
  const s = Math.round(seconds)
  if (s < 60) return `${s} s`
  if (s < 3600) return `${Math.floor(s / 60)} min ${s % 60} s`
  return `${Math.floor(s / 3600)} h ${Math.floor((s % 3600) / 60)} min`
}
