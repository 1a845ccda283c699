/** Makes points, from the mildest on, until what is asked for is met or nothing more is to be tried. */
import { MncError } from '../base/errors.ts'
import { type Candidate, makeCandidate } from './candidate.ts'
import { chosenOf, isGood, verdictOf } from './choose.ts'
import type { CompressEvent, StageName } from './events.ts'
import { parseTime } from './goal.ts'
import { ladderFor } from './ladder.ts'
import { withLatencies } from './latencies.ts'
import { type LayerTable, measureLayers } from './layer-costs.ts'
import type { Point } from './point.ts'
import type { Run } from './run.ts'
import { bytesAt, MILD_WIDTHS, mixed, SMALL_WIDTHS, type Widths, weightBytes, widthsFor } from './split.ts'
import { tunedPoints } from './tune.ts'

export type Tell = (event: CompressEvent) => void | Promise<void>

/** Halvings between a file that is good enough and one that is not. */
const HALVINGS = 3
/** They end where the two are so close, as a share of the larger. */
const CLOSE = 0.04
/** Shares of the weights' bytes, as floats, that may stay as they are where 8 bits everywhere are too few. */
const LEFT_FLOAT = [0.1, 0.25, 0.5] as const
/** Splits until the file is small enough: what layers cost in bytes is known to within their nodes and names. */
const FITTINGS = 6

export class Search {
  readonly #run: Run
  readonly #tell: Tell
  readonly #points: Point[] = []
  #mixed = 0

  readonly #seconds: number

  /** `seconds`: about how long it all will take. */
  constructor(run: Run, tell: Tell, seconds: number) {
    this.#run = run
    this.#tell = tell
    this.#seconds = seconds
  }

  async points(): Promise<readonly Point[]> {
    const { target, asked, o } = this.#run
    await this.#stage('quantise', 'quantising after training, without labels', this.#seconds)
    const [first, ...others] = ladderFor(target, asked, o.effort)
    await this.#climb(first!, true)
    for (const rung of others) await this.#climb(rung, false)
    await this.#split()
    if (!this.#isMet && o.time !== undefined) {
      await this.#stage('fine-tune', 'fine-tuning with the float model as teacher', parseTime(o.time))
      for await (const made of tunedPoints(this.#run, this.#points, this.#tell)) {
        await this.#keep(made)
        if (this.#isMet) break
      }
    }
    return this.#points
  }

  get #best(): Point | null {
    return chosenOf(this.#points, this.#run.asked)
  }

  get #isMet(): boolean {
    const best = this.#best
    return best !== null && verdictOf(best, this.#run.asked).met
  }

  async #stage(stage: StageName, text: string, secondsLeft: number | null = null): Promise<void> {
    await this.#tell({ kind: 'stage', stage, text, secondsLeft })
  }

  /** The first candidate of a rung that keeps what is asked of the outputs. */
  async #climb(rung: readonly Candidate[], isFirst: boolean): Promise<Point | null> {
    let last: Point | null = null
    for (const [i, candidate] of rung.entries()) {
      last = (await this.#make(candidate, isFirst && i === 0)) ?? last
      if (last && isGood(last, this.#run.asked)) break
    }
    return last
  }

  /** A candidate that cannot be made is told; the first one's error says why mnc cannot help. */
  async #make(candidate: Candidate, isFirst = false): Promise<Point | null> {
    const { name } = candidate
    try {
      return await this.#keep(
        await makeCandidate(this.#run, candidate, (event) => this.#tell({ kind: 'ptq', point: name, event })),
      )
    } catch (error) {
      const isOurs = error instanceof MncError && (error.blame === 'model' || error.blame === 'gate')
      if (isFirst || !isOurs) throw error
      await this.#tell({ kind: 'failed', point: name, reason: error.describe() })
      return null
    }
  }

  async #keep(made: Point): Promise<Point> {
    const { asked } = this.#run
    const point = asked.goal?.kind === 'latency' ? (await withLatencies(this.#run, [made])).points[0]! : made
    this.#points.push(point)
    const best = this.#best!
    await this.#tell({ kind: 'point', point, verdict: verdictOf(point, asked), best, isNew: best === point })
    return point
  }

  /** Different widths by layer, where uniform ones are more than the goal allows or not as good as it asks. */
  async #split(): Promise<void> {
    const { asked, target } = this.#run
    const base = this.#points[0]
    if (!base || (asked.goal && asked.goal.kind !== 'bytes')) return
    const eight = this.#points.filter((p) => p.name.startsWith('w8a8'))
    const good = eight.find((p) => isGood(p, asked))
    if (asked.goal) {
      if (eight.some((p) => p.bytes <= asked.goal!.most)) return
      await this.#fit(await this.#layers(SMALL_WIDTHS), base, asked.goal.most)
    } else if (!good) await this.#leaveFloat()
    else if (target.aim === 'bytes') await this.#halve(base, good)
  }

  async #layers(widths: readonly number[]): Promise<readonly LayerTable[]> {
    await this.#stage('layers', 'measuring what each layer costs at each width')
    const layers = await measureLayers(this.#run, widths, (done, total) =>
      this.#tell({ kind: 'progress', label: 'layers', done, total }),
    )
    await this.#stage('split', 'splitting the bytes among the layers')
    return layers
  }

  /** A file of at most `most` bytes. `base` has 8 bits everywhere. */
  async #fit(layers: readonly LayerTable[], base: Point, most: number): Promise<Point | null> {
    const eight = (): number => 8
    const whole = Object.fromEntries(layers.map((l) => [l.name, 8]))
    // what quantising inputs and training add to a file of rounded weights
    const rest = base.bytes - (await bytesAt(this.#run, whole))
    let budget = most - (base.bytes - weightBytes(layers, eight))
    let widths: Widths | null = null
    for (let i = 0; i < FITTINGS; i++) {
      widths = widthsFor(layers, SMALL_WIDTHS, Math.max(0, budget))
      if (!widths) return null
      const over = (await bytesAt(this.#run, widths)) + rest - most
      if (over <= 0) break
      budget -= over
    }
    return widths && this.#make(mixed(`mixed-${++this.#mixed}`, widths))
  }

  /** Ever smaller files, between the smallest that is good enough and the largest that is not. */
  async #halve(base: Point, good: Point): Promise<void> {
    const { asked } = this.#run
    const layers = await this.#layers(SMALL_WIDTHS)
    const fixed = base.bytes - weightBytes(layers, () => 8)
    let high = Math.min(...this.#points.filter((p) => isGood(p, asked)).map((p) => p.bytes), good.bytes)
    const poor = this.#points.filter((p) => !isGood(p, asked) && p.bytes < high).map((p) => p.bytes)
    let low = Math.max(fixed + weightBytes(layers, () => SMALL_WIDTHS[0]), ...poor)
    for (let i = 0; i < HALVINGS && high - low > CLOSE * high; i++) {
      const middle = Math.round((low + high) / 2)
      const point = await this.#fit(layers, base, middle)
      if (!point) low = middle
      else if (isGood(point, asked)) high = Math.min(point.bytes, middle)
      else low = Math.max(Math.min(point.bytes, middle), low)
    }
  }

  /** The layers that mind 8 bits most stay as they are, as few as are enough. */
  async #leaveFloat(): Promise<void> {
    const layers = await this.#layers([8])
    const [eight, float] = [weightBytes(layers, () => 8), weightBytes(layers, () => 0)]
    for (const share of LEFT_FLOAT) {
      const widths = widthsFor(layers, MILD_WIDTHS, Math.floor(eight + share * (float - eight)))
      if (!widths || Object.values(widths).every((bits) => bits === 8)) continue
      const point = await this.#make(mixed(`mixed-${++this.#mixed}`, widths))
      if (point && isGood(point, this.#run.asked)) return
    }
  }
}
