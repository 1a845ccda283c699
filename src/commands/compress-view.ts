/** What `mnc compress` shows: what it found, the plan, each point against the goal, and the result. */

import { verdictOf } from '../compress/choose.ts'
import type { CompressEvent, CompressResult, Found } from '../compress/events.ts'
import { showAmount } from '../compress/goal.ts'
import type { Point } from '../compress/point.ts'
import type { Taken } from '../compress/take.ts'
import { askedText, judgedText } from '../compress/words.ts'
import type { PtqEvent } from '../ptq/ptq.ts'
import type { CommandIO } from './io.ts'
import { formatDuration, type Progress } from './progress.ts'
import { bigNumber, percent, table } from './table.ts'
import { TrainingView } from './training-view.ts'

type Plan = Extract<CompressEvent, { kind: 'plan' }>

export class CompressView {
  readonly #io: CommandIO
  #bar: { label: string; bar: Progress } | null = null
  #training: TrainingView | null = null
  #found: Found | null = null
  #plan: Plan | null = null

  constructor(io: CommandIO) {
    this.#io = io
  }

  get found(): Found | null {
    return this.#found
  }

  get plan(): Plan | null {
    return this.#plan
  }

  show(event: CompressEvent): void {
    switch (event.kind) {
      case 'progress':
        this.#progress(event.label, event.done, event.total)
        return
      case 'ptq':
        this.#quantising(event.point, event.event)
        return
      case 'run':
        if (event.event.kind === 'train') {
          this.#training ??= new TrainingView(this.#io, event.point)
          this.#training.show(event.event.event)
        } else if (event.event.kind === 'progress')
          this.#progress(event.event.label, event.event.done, event.event.total)
        return
    }
    this.end()
    const io = this.#io
    switch (event.kind) {
      case 'found':
        this.#found = event.found
        for (const line of foundLines(event.found)) io.log(line)
        return
      case 'plan':
        this.#plan = event
        for (const line of planLines(event)) io.log(line)
        return
      case 'stage':
        io.log(
          `[${event.stage}] ${event.text}${event.secondsLeft === null ? '' : `, about ${formatDuration(event.secondsLeft)} left`}`,
        )
        return
      case 'point':
        for (const line of pointLines(event)) io.log(line)
        return
      case 'failed':
        io.log(`    ${event.point}: not possible: ${event.reason}`)
        return
      case 'log':
        io.log(event.message)
    }
  }

  #progress(label: string, done: number, total: number): void {
    if (this.#bar?.label !== label) {
      this.end()
      this.#bar = { label, bar: this.#io.progress(label, total) }
    }
    this.#bar.bar.update(done)
  }

  #quantising(point: string, event: PtqEvent): void {
    if (event.kind === 'train') {
      this.#training ??= new TrainingView(this.#io, point)
      this.#training.show(event.event)
      return
    }
    this.end()
    if (event.kind === 'begin') this.#io.detail(`    ${point}: ${event.step} ...`)
    else if (event.kind === 'step')
      this.#io.detail(`    ${point}: ${event.step.name} ${event.step.outcome}, ${formatDuration(event.step.seconds)}`)
    else if (event.kind === 'log') this.#io.log(event.message)
  }

  end(): void {
    this.#training?.end()
    this.#bar?.bar.end()
    this.#training = null
    this.#bar = null
  }
}

function foundLines(f: Found): string[] {
  const ops = Object.entries(f.ops).map(([op, n]) => `${n} ${op}`)
  const macs = f.macs === null ? '' : `, ${bigNumber(f.macs)} MACs`
  const { fitted, held, test } = f.samples
  const made = Number.isFinite(fitted)
    ? `${fitted.toLocaleString('en')} samples to work with`
    : 'random inputs to work with'
  return [
    `    ${showAmount('bytes', f.bytes)}, ${f.parameters.toLocaleString('en')} parameters${macs}, opset ${f.opset}, layers: ${ops.join(', ')}`,
    `    ${made}, ${held.toLocaleString('en')} to choose by, ${test.toLocaleString('en')} for the figure${f.labelled ? '' : '; no labels: outputs are compared with the float ones'}`,
    ...(f.preprocess === null ? [] : [`    pixels: ${f.preprocess}`]),
    ...(f.top1 === null ? [] : [`    float model: ${percent(f.top1, 2)} on the samples to choose by`]),
    ...(f.mixed === null
      ? []
      : [`    it knows them by heart: they are mixed in pairs, of which it gets ${percent(f.mixed, 2)}`]),
    ...(f.needed === null || f.needed <= f.samples.test
      ? []
      : [
          `    note: to be certain of the drop takes about ${f.needed.toLocaleString('en')} test samples; there are ${test.toLocaleString('en')}`,
        ]),
    ...f.remarks.map((r) => `    note: ${r}`),
  ]
}

function planLines(plan: Plan): string[] {
  const about = (s: number | null): string => (s === null ? 'time unknown' : `about ${formatDuration(s)}`)
  return [`    goal: ${askedText(plan)}`, ...plan.stages.map((s) => `    then: ${s.text}, ${about(s.seconds)}`)]
}

export const describePlan = (found: Found | null, plan: Plan | null): string =>
  [...(found ? foundLines(found) : []), ...(plan ? planLines(plan) : [])].map((l) => l.trim()).join('\n')

function pointLines({ point, verdict, best }: Extract<CompressEvent, { kind: 'point' }>): string[] {
  const against = verdict.met ? 'meets the goal' : verdict.misses.join('; ')
  const line = `    ${point.name}: ${showAmount('bytes', point.bytes)}, ${judgedText(point.held)}: ${against}, ${formatDuration(point.seconds)}`
  return best === point ? [line] : [line, `    best so far: ${best.name}, ${showAmount('bytes', best.bytes)}`]
}

export function describeResult(result: CompressResult, point: Point, taken: Taken, width: number): string {
  const { points, asked, found, test, check, verdict } = result
  const rows = points.map((p, i) => [
    ...[
      String(i + 1),
      p.name,
      p.bytes.toLocaleString('en'),
      p.held.top1 === null ? p.held.cosine.toFixed(5) : percent(p.held.top1, 2),
    ],
    ...[p.macs === null ? '?' : bigNumber(p.macs), p.latency === null ? '-' : `${p.latency.toPrecision(3)} ms`],
    `${verdictOf(p, asked).met ? 'meets the goal' : ''}${p === point ? ' *' : ''}`.trim(),
  ])
  const quality = found.labelled ? 'held out' : 'cosine'
  const times = Number((found.bytes / point.bytes).toPrecision(3))
  const chosen = point === result.chosen
  return [
    table([['', 'point', 'bytes', quality, 'MACs', 'latency', ''], ...rows], 'rlrrrrl', width),
    '',
    `${point.name}: ${showAmount('bytes', point.bytes)}, ${times} times smaller than the float file`,
    ...(chosen ? [`test: ${judgedText(test)}`] : []),
    ...(chosen
      ? [
          `check: the same answer as its graph on ${percent(check.byOptimisation.all.agreement)} of ${check.samples} samples in onnxruntime`,
        ]
      : []),
    ...(chosen && verdict.met ? [`reached: ${askedText(result)}`] : []),
    ...result.notes.map((n) => `note: ${n}`),
    '',
    taken.output,
    taken.recipe,
    taken.report,
  ].join('\n')
}
