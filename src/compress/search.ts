/** Makes points, from the mildest on, until what is asked for is met or nothing more is to be tried. */
import { MncError } from '../base/errors.ts'
import type { Effort } from '../ptq/ptq-options.ts'
import { type Candidate, makeCandidate } from './candidate.ts'
import { chosenOf, isGood, qualityOf, verdictOf } from './choose.ts'
import type { CompressEvent, StageName } from './events.ts'
import { ForSize, sameForAll, splitAmong } from './for-size.ts'
import { parseTime } from './goal.ts'
import { ladderFor } from './ladder.ts'
import { withLatencies } from './latencies.ts'
import { everyLayer, type Measured, measureLayers } from './layer-costs.ts'
import { type LayerForm, MILD_FORMS, SMALL_FORMS, SPARSE_FORMS } from './layer-forms.ts'
import type { Point } from './point.ts'
import type { Run } from './run.ts'
import { formsFor, mixed, weightBytes } from './split.ts'
import { tunedPoint } from './tune.ts'

export type Tell = (event: CompressEvent) => void | Promise<void>

/** Halvings between a file that is good enough and one that is not. */
const HALVINGS = 3
/** They end where the two are so close, as a share of the larger. */
const CLOSE = 0.04
/** Shares of the weights' bytes, as floats, that may stay as they are where 8 bits everywhere are too few. */
const LEFT_FLOAT = [0.1, 0.25, 0.5] as const
/** Training makes words of a prefix code longer (ResNet-20 at 69 % zeros: 2.2 %), and adds a line to the history that the file keeps. */
const TRAINED = 0.025
const STAGE_BYTES = 300
/** And at least so much fine-tunes, however long the rest took. */
const TUNING_SHARE = 0.4
/** Of the time that there is, at most so much measures what layers cost. */
const MEASURING_SHARE = 0.2
const EIGHT: LayerForm = { bits: 8, sparsity: 0 }
const FLOAT: LayerForm = { bits: 0, sparsity: 0 }
/** Files that are made until one is small enough. */
const ATTEMPTS = 3

export class Search {
  readonly #run: Run
  readonly #tell: Tell
  readonly #points: Point[] = []
  #mixtures = 0

  readonly #seconds: number
  readonly #start = performance.now()

  /** `seconds`: about how long it all will take. */
  constructor(run: Run, tell: Tell, seconds: number) {
    this.#run = run
    this.#tell = tell
    this.#seconds = seconds
  }

  async points(): Promise<readonly Point[]> {
    const { target, asked, o, widest } = this.#run
    await this.#stage('quantise', 'quantising after training, without labels', this.#seconds)
    const [first, ...others] = ladderFor(target, asked, o.effort, widest)
    await this.#climb(first!, true)
    for (const rung of others) if (!this.#isLowEnough) await this.#climb(rung, false)
    const isTuned = await this.#tuneSmall()
    await this.#split()
    if (!isTuned && !this.#isSettled) await this.#tune(this.#toTrain)
    return this.#points
  }

  /** Without a goal, where the smallest file so far loses too much: it may be what comes back with training. */
  async #tuneSmall(): Promise<boolean> {
    const { asked, target } = this.#run
    if (asked.goal || target.aim !== 'bytes') return false
    const smallest = this.#points.reduce((a, b) => (b.bytes < a.bytes ? b : a))
    return !isGood(smallest, asked) && this.#tune(smallest)
  }

  async #tune(from: Point | null): Promise<boolean> {
    const { time } = this.#run.o
    if (time === undefined || from === null) return false
    await this.#stage('fine-tune', 'fine-tuning with the float model as teacher', this.#secondsLeft(parseTime(time)))
    const made = await tunedPoint(this.#run, from, this.#secondsLeft(parseTime(time)), this.#tell)
    if (made) await this.#keep(made)
    return true
  }

  /** Of the whole time, for fine-tuning. */
  #secondsLeft(whole: number): number {
    return Math.max(TUNING_SHARE * whole, whole - (performance.now() - this.#start) / 1000)
  }

  /** What meets the goal and loses no more than was asked for: neither more of its bytes nor training would be worth it. */
  get #isSettled(): boolean {
    return this.#isMet && isGood(this.#best!, this.#run.asked)
  }

  /** Whether a score is met: more zeros would only lose accuracy. */
  get #isLowEnough(): boolean {
    return this.#run.asked.goal?.kind === 'score' && this.#points.some((p) => this.#isWithin(p))
  }

  #isWithin(point: Point): boolean {
    const { goal } = this.#run.asked
    return goal === null || (point[goal.kind] ?? Number.POSITIVE_INFINITY) <= goal.most
  }

  /** Training brings accuracy back and no bytes: the best of what is small enough. */
  get #toTrain(): Point | null {
    const small = this.#points.filter((p) => this.#isWithin(p))
    return chosenOf(small.length > 0 ? small : this.#points, this.#run.asked)
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

  /** Different forms by layer, where uniform ones are more than the goal allows or not as good as it asks. */
  async #split(): Promise<void> {
    const { asked, target, o, widest } = this.#run
    const base = this.#points[0]
    if (!base || (asked.goal && asked.goal.kind !== 'bytes')) return
    const eight = this.#points.filter((p) => p.name.startsWith(`w${widest}a8`))
    const good = eight.find((p) => isGood(p, asked))
    if (asked.goal) {
      const most = asked.goal.most - (o.time === undefined ? 0 : TRAINED * asked.goal.most + STAGE_BYTES)
      if (eight.some((p) => p.bytes <= most) || this.#isSettled) return
      if (this.#points.every((p) => p.bytes > most)) await (await this.#same(base)).atMost(most, ATTEMPTS)
      if (!this.#isSettled) await (await this.#mixed(SPARSE_FORMS, base)).atMost(most, ATTEMPTS)
    } else if (!good) await this.#leaveFloat()
    else if (target.aim === 'bytes') await this.#halve(base, good)
  }

  async #layers(forms: readonly LayerForm[]): Promise<Measured> {
    const what = forms.some((f) => f.sparsity > 0) ? 'at each width and sparsity' : 'at each width'
    await this.#stage('layers', `measuring what each layer costs ${what}`)
    const { time } = this.#run.o
    const seconds = time === undefined ? Number.POSITIVE_INFINITY : MEASURING_SHARE * parseTime(time)
    const measured = await measureLayers(this.#run, forms, seconds, (done, total) =>
      this.#tell({ kind: 'progress', label: 'layers', done, total }),
    )
    await this.#stage('split', 'splitting the bytes among the layers')
    return measured
  }

  /** Of candidates for a size: what is trained later need not be trained before. */
  get #effort(): Effort | undefined {
    return this.#run.o.time !== undefined && this.#run.asked.goal !== null ? 'fast' : undefined
  }

  /** The way in which the same share of zeros is taken from all layers. */
  async #same(base: Point): Promise<ForSize> {
    const from = this.#points.find((p) => p.name.startsWith('w4a8')) ?? base
    return new ForSize(await sameForAll(this.#run, from, this.#effort), (c) => this.#make(c))
  }

  async #mixed(forms: readonly LayerForm[], base: Point): Promise<ForSize> {
    const measured = await this.#layers(forms)
    const nextName = (): string => `mixed-${++this.#mixtures}`
    return new ForSize(await splitAmong(this.#run, measured, base, { effort: this.#effort, nextName }), (c) =>
      this.#make(c),
    )
  }

  /** Ever smaller files, between the smallest that is good enough and the largest that is not. */
  async #halve(base: Point, good: Point): Promise<void> {
    const { asked, float } = this.#run
    const isGoodAt4 = this.#points.some((p) => p.bytes < good.bytes && isGood(p, asked))
    const forms = isGoodAt4 ? SPARSE_FORMS : SMALL_FORMS
    const weights = everyLayer(float).chosen.map((l) => ({ name: l.name, weights: l.tensor.size, damage: {} }))
    const fixed = base.bytes - weightBytes(weights, EIGHT)
    const least = Math.min(...forms.map((f) => weightBytes(weights, f)))
    let high = Math.min(...this.#points.filter((p) => isGood(p, asked)).map((p) => p.bytes), good.bytes)
    const poor = this.#points.filter((p) => !isGood(p, asked) && p.bytes < high).map((p) => p.bytes)
    let low = Math.max(fixed + least, ...poor)
    let ways = [...(isGoodAt4 ? [await this.#same(base)] : []), await this.#mixed(forms, base)]
    for (let i = 0; i < HALVINGS && high - low > CLOSE * high; i++) {
      const middle = Math.round((low + high) / 2)
      const made: (Point | null)[] = []
      for (const way of ways) made.push(await way.atMost(middle, 1))
      const best = made.reduce((a, b) => (a && b ? (qualityOf(b) > qualityOf(a) ? b : a) : (a ?? b)), null)
      // the better way at one size is taken at the others
      if (best) ways = ways.filter((_, j) => made[j] === best)
      if (!best) low = middle
      else if (isGood(best, asked)) high = Math.min(best.bytes, middle)
      else low = Math.max(Math.min(best.bytes, middle), low)
    }
  }

  /** The layers that mind 8 bits most stay as they are, as few as are enough. */
  async #leaveFloat(): Promise<void> {
    const { layers } = await this.#layers([EIGHT])
    const [eight, float] = [weightBytes(layers, EIGHT), weightBytes(layers, FLOAT)]
    for (const share of LEFT_FLOAT) {
      const forms = formsFor(layers, MILD_FORMS, Math.floor(eight + share * (float - eight)))
      if (!forms || Object.values(forms).every((f) => f.bits === EIGHT.bits)) continue
      const point = await this.#make(mixed(`mixed-${++this.#mixtures}`, forms))
      if (point && isGood(point, this.#run.asked)) return
    }
  }
}
