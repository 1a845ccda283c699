/** A training run's events as people see them: a line at the start and at each validation, a bar between. */
import { showBytes } from '../base/amounts.ts'
import { fallbackWarnings } from '../runtime/fallback-warnings.ts'
import type { StepProfile } from '../train/loop/step-profile.ts'
import type { MemoryPlan, TrainEvent } from '../train/loop/trainer.ts'
import type { Objective } from '../train/step/objectives.ts'
import { temperatureWarning } from '../train/temperature-warning.ts'
import type { CommandIO } from './io.ts'
import type { Progress } from './progress.ts'
import { percent, table } from './table.ts'

export class TrainingView {
  readonly #io: CommandIO
  readonly #label: string
  #progress: Progress | null = null
  #rate = 0
  #top1: number | null = null

  constructor(io: CommandIO, label = 'train') {
    this.#io = io
    this.#label = label
  }

  show(event: TrainEvent): void {
    if (event.kind === 'start') {
      const { parameters, stepsPerEpoch, totalSteps, device, seconds, step, runs, batch } = event
      const from = step > 0 ? `, from step ${step}` : ''
      const steps = `${totalSteps} ${totalSteps === 1 ? 'step' : 'steps'} (${stepsPerEpoch} per epoch${runs > 1 ? `, ${runs} runs of ${batch} each` : ''})${from}`
      this.#io.log(`${parameters} parameters, ${steps}, on ${device}; step graph built in ${seconds.toFixed(1)} s`)
      const taught = objectivesLine(event.objectives)
      if (taught) this.#io.log(taught)
      if (event.memory) this.#io.log(memoryLine(event.memory))
      for (const line of [...event.warnings, ...fallbackWarnings(event.fallbacks)]) this.#io.log(line)
      this.#progress = this.#io.progress(this.#label, totalSteps)
    } else if (event.kind === 'step') {
      const { step, epoch, loss, top1, imagesPerSecond, teacherEntropy } = event
      const warning = teacherEntropy === undefined ? null : temperatureWarning(teacherEntropy)
      if (warning) this.#io.log(warning)
      const right = top1 === null ? '' : `  top-1 ${percent(this.#smooth(top1))}`
      this.#rate = this.#rate === 0 ? imagesPerSecond : 0.9 * this.#rate + 0.1 * imagesPerSecond
      this.#progress?.update(
        step + 1,
        `epoch ${epoch}  loss ${loss.toFixed(4)}${right}  ${this.#rate.toFixed(0)} img/s`,
      )
    } else if (event.kind === 'epoch') {
      const { epoch, valLoss, valTop1, valMetric } = event
      this.end()
      if (valTop1 !== null)
        this.#io.log(`epoch ${epoch}: validation top-1 ${percent(valTop1, 2)}, loss ${valLoss?.toFixed(4)}`)
      if (valMetric) this.#io.log(`epoch ${epoch}: validation ${valMetric.name} ${valMetric.value.toPrecision(5)}`)
    } else if (event.kind === 'memory') {
      const { peak, limit } = event
      this.#io.log(`memory: the process has taken ${showBytes(peak)}, more than the ${showBytes(limit)} that it was to`)
    } else if (event.kind === 'profile') {
      this.end()
      this.#io.log((width) => profileLines(event.profile, width).join('\n'))
    }
  }

  /** Accuracy of one batch is mostly noise. */
  #smooth(top1: number): number {
    this.#top1 = this.#top1 === null ? top1 : 0.95 * this.#top1 + 0.05 * top1
    return this.#top1
  }

  /** Removes the bar. */
  end(): void {
    this.#progress?.end()
  }
}

/** `memory: 1.87 of 2.00 GB: recompute 14 of 60 activations, batch 128 as 2 x 64` */
function memoryLine({ bytes, limit, recomputed, activations, batch, runs }: MemoryPlan): string {
  const ways = [
    ...(recomputed > 0 ? [`recompute ${recomputed} of ${activations} activations`] : []),
    ...(runs > 1 ? [`batch ${batch * runs} as ${runs} x ${batch}`] : []),
  ]
  const how = ways.length > 0 ? `: ${ways.join(', ')}` : ''
  return `memory: about ${showBytes(bytes)} of ${showBytes(limit)}${how}`
}

/** Which loss each output has, unless all that is compared is scores. */
function objectivesLine(objectives: readonly Objective[]): string | null {
  if (objectives.length === 1 && objectives[0]!.loss !== 'nmse') return null
  const each = objectives.map(({ output, loss, axis, weight }) => {
    const over = axis === null ? '' : ` over axis ${axis}`
    return `${output} by ${loss}${over}${weight === 1 ? '' : ` times ${weight}`}`
  })
  return `losses: ${each.join(', ')}`
}

const LAYERS = 15

/** Kinds of work, then the layers that take longest. */
function profileLines({ steps, kernels, ms, memoryBound, kinds, layers }: StepProfile, width: number): string[] {
  const whole = `${percent(memoryBound, 0)} of it waits for memory`
  const work = kinds.map((k) => [k.kind, k.ms.toFixed(1), percent(k.share), percent(k.memoryBound, 0)])
  const columns = ['forward', 'input gradient', 'weight gradient', 'quantisers'] as const
  const shown = columns.filter((c) => kinds.some(({ kind }) => kind === c))
  const rows = layers
    .slice(0, LAYERS)
    .map((l) => [
      ...[l.layer || '(none)', l.ms.toFixed(1), percent(l.share)],
      ...shown.map((c) => (l.kinds[c] ?? 0).toFixed(1)),
    ])
  return [
    `a step takes ${ms.toFixed(1)} ms in ${kernels} kernels (mean of ${steps}); ${whole}`,
    table([['kind of work', 'ms', 'share', 'memory-bound'], ...work], 'lrrr', width),
    table([['layer', 'ms', 'share', ...shown], ...rows], `lrr${shown.map(() => 'r').join('')}`, width),
    ...(layers.length > LAYERS ? [`and ${layers.length - LAYERS} more layers`] : []),
  ]
}
