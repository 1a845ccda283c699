/** Progress of one long job on stderr: a bar redrawn in place on a terminal, a plain line at most every 10 s elsewhere. */
import type { Writable } from 'node:stream'
import { widthOfStream } from './wrap.ts'

const WIDTH = 24
/** A shorter bar says nothing. */
const LEAST_WIDTH = 8
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

  /** `done` of the total is finished, a share where the total is 1; `note` follows it (a loss, a rate). */
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
    const figure = this.#total === 1 ? `${Math.round(100 * share)} %` : `${done}/${this.#total}`
    const parts = (bar: string): string[] => [this.#label, bar, figure, note, left].filter(Boolean)
    if (!this.#live || !this.#stream) return parts('').join('  ')
    // one column stays free: terminals differ in where a full line leaves the cursor, and a second line cannot be redrawn
    return fitLine(parts, share, widthOfStream(this.#stream) - 1)
  }
}

/** The bar takes the room that is left, then gives way, then whole parts from the middle: the time left is the last to go. */
function fitLine(parts: (bar: string) => string[], share: number, room: number): string {
  const plain = parts('')
  const free = Math.min(WIDTH, room - plain.join('  ').length - 4)
  if (free >= LEAST_WIDTH) {
    const filled = Math.round(share * free)
    return parts(`[${'='.repeat(filled)}${' '.repeat(free - filled)}]`).join('  ')
  }
  const shown = plain.flatMap((part, i) => (i === 2 && plain.length === 4 ? part.split('  ') : [part]))
  while (shown.length > 1 && shown.join('  ').length > room) shown.splice(shown.length > 2 ? -2 : -1, 1)
  return shown.join('  ').slice(0, room)
}

/** `7 s`, `3 min 20 s`, `2 h 5 min`, `3 d 4 h`. */
export function formatDuration(seconds: number): string {
  const s = Math.round(seconds)
  if (s < 60) return `${s} s`
  if (s < 3600) return `${Math.floor(s / 60)} min ${s % 60} s`
  if (s < 86_400) return `${Math.floor(s / 3600)} h ${Math.floor((s % 3600) / 60)} min`
  return `${Math.floor(s / 86_400)} d ${Math.floor((s % 86_400) / 3600)} h`
}
