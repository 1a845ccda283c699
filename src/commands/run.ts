/** `mnc run`: a recipe, stage by stage. */
import { optionsIn } from '../base/options.ts'
import type { StageEstimate } from '../recipes/estimate.ts'
import type { Recipe, Stage } from '../recipes/recipe.ts'
import type { RunEvent, RunOptions, RunResult, StageResult } from '../recipes/run.ts'
import { deviceNames } from '../runtime/device-options.ts'
import { probeOptions } from '../runtime/probe-options.ts'
import { shardOptions } from '../shards/shard-options.ts'
import { defineCommand } from './define-command.ts'
import { interruptible } from './interrupt.ts'
import type { CommandIO } from './io.ts'
import { dataOptions, dataSuggestions } from './pixel-options.ts'
import { formatDuration, type Progress } from './progress.ts'
import { percent, table } from './table.ts'
import { TrainingView } from './training-view.ts'

export const run = defineCommand({
  name: 'run',
  summary: 'Run a recipe: its stages in order, skipping finished ones and resuming a half-trained one',
  arguments: [
    {
      name: 'RECIPE',
      description: 'A JSON file, or the name of a recipe in models/',
      optional: true,
      values: async () => (await import('../recipes/load.ts')).recipeNames(),
    },
  ],
  options: {
    workdir: {
      type: 'string',
      placeholder: 'DIR',
      description: 'Folder for the files of the stages; build/NAME by default',
    },
    from: {
      type: 'string',
      placeholder: 'STAGE',
      description: 'Start at this stage; use the files of earlier stages as they are',
    },
    until: { type: 'string', placeholder: 'STAGE', description: 'Stop after this stage' },
    resume: {
      type: 'boolean',
      default: true,
      description: 'Skip finished stages and continue a half-trained one; --no-resume makes all of them again',
    },
    dryRun: {
      type: 'boolean',
      default: false,
      description: 'Only show the stages, their settings and the time they would take',
    },
    schema: {
      type: 'boolean',
      default: false,
      description: 'Print the JSON Schema of recipes, with what the configuration defines, for editors',
    },
    data: {
      type: 'string',
      placeholder: 'REF',
      description: "Data reference that replaces the recipe's own",
      get suggestions(): readonly string[] {
        return dataSuggestions()
      },
    },
    ...dataOptions,
    device: {
      type: 'string',
      placeholder: 'DEVICE',
      suggestions: deviceNames,
      description: "Device that replaces the recipe's own; see train",
    },
    ...probeOptions,
    checkpointSteps: {
      type: 'integer',
      minimum: 1,
      description: 'Steps between checkpoints, in addition to every 10 minutes',
    },
    jobs: {
      ...shardOptions.jobs,
      description: 'Stages at a time, each by a process, where they do not wait for another',
    },
  },
  examples: [
    'mnc run quickstart --workdir build/quickstart',
    'mnc run recipe.json --until pruned --dry-run',
    'mnc run --schema > recipe.schema.json',
  ],
  async run([reference], options, io) {
    if (options.schema) return showSchema(io)
    const { loadRecipe, recipeNames } = await import('../recipes/load.ts')
    if (reference === undefined) {
      const { usageError } = await import('../base/errors.ts')
      throw usageError(
        "missing required argument 'RECIPE'",
        `give a JSON file, or one of ${(await recipeNames()).join(', ')}`,
      )
    }
    const { chosenStages, runRecipe } = await import('../recipes/run.ts')
    const { data, dryRun, from, until, resume, checkpointSteps, device } = options
    const reading = optionsIn(dataOptions, options)
    const recipe = await loadRecipe(reference, { data, reading, device, seed: io.seed === 0 ? undefined : io.seed })
    const workdir = options.workdir ?? `build/${recipe.name}`
    const view = new RunView(recipe, io)
    const stop = interruptible()
    const onEvent = (event: RunEvent): void => {
      if (event.kind === 'train' && event.event.kind === 'step') stop.arm()
      else if (event.kind === 'stage' || event.kind === 'done') stop.disarm()
      view.show(event)
    }
    const settings = { workdir, from, until, resume, checkpointSteps, onEvent }
    if (dryRun) return showEstimate(recipe, settings, io)
    if (options.jobs > 1) {
      const { stagesInProcesses } = await import('./stage-processes.ts')
      await stagesInProcesses(chosenStages(recipe, from, until), options.jobs, io)
      settings.resume = true
    }
    const { cacheFolder } = await import('../runtime/ort/session-cache.ts')
    try {
      const result = await runRecipe(recipe, { ...settings, cache: cacheFolder(), signal: stop.signal })
      view.end()
      const { failed, ...rest } = result
      io.result({ ...rest, failed: failed?.message ?? null }, (width) => summaryTable(result, width))
      if (failed) throw failed
    } finally {
      view.end()
      stop.disarm()
    }
  },
})

async function showSchema(io: CommandIO): Promise<void> {
  const { recipeSchema } = await import('../recipes/recipe.ts')
  const schema = recipeSchema()
  io.result(schema, JSON.stringify(schema, null, 2))
}

/** Events as lines and bars on stderr. */
class RunView {
  readonly #io: CommandIO
  readonly #count: number
  #progress: { label: string; bar: Progress } | null = null
  #training: TrainingView | null = null

  constructor(recipe: Recipe, io: CommandIO) {
    this.#io = io
    this.#count = recipe.stages.length
  }

  show(event: RunEvent): void {
    if (event.kind === 'stage') {
      const { stage, index, reason } = event
      this.#io.log(`[${index + 1}/${this.#count}] ${stage.name}: ${reason ?? 'up to date'}`)
    } else if (event.kind === 'train') {
      this.#training ??= new TrainingView(this.#io, event.stage.name)
      this.#training.show(event.event)
    } else if (event.kind === 'progress') {
      const { label, done, total } = event
      if (this.#progress?.label !== label) {
        this.end()
        this.#progress = { label, bar: this.#io.progress(label, total) }
      }
      this.#progress.bar.update(done)
    } else if (event.kind === 'log') this.#io.log(event.message)
    else {
      this.end()
      const { seconds, metrics, status } = event.result
      const top1 = metrics.eval ? `top-1 ${percent(metrics.eval.top1, 2)}, ` : ''
      const others = Object.entries(metrics.metrics ?? {}).map(
        ([name, { value }]) => `${name} ${value.toPrecision(5)}, `,
      )
      if (status !== 'skipped')
        this.#io.log(`    ${top1}${others.join('')}${metrics.bytes} bytes, ${formatDuration(seconds)}`)
    }
  }

  end(): void {
    this.#training?.end()
    this.#progress?.bar.end()
    this.#training = null
    this.#progress = null
  }
}

function summaryTable({ stages }: RunResult, width: number): string {
  const scored = stages.some((s) => s.metrics.score)
  const row = ({ stage, metrics: m, status, seconds }: StageResult): string[] => [
    ...[stage, m.eval ? percent(m.eval.top1, 2) : '-', percent(m.sparsity), bits(m.weightBits), bits(m.activationBits)],
    ...[m.bytes.toLocaleString('en'), ...(scored ? [m.score?.score.toFixed(6) ?? '-'] : [])],
    status === 'skipped' ? 'up to date' : formatDuration(seconds),
  ]
  const heads = ['stage', 'top-1', 'zero', 'W bits', 'A bits', 'bytes', ...(scored ? ['score'] : []), '']
  const body = table([heads, ...stages.map(row)], scored ? 'lrrrrrrr' : 'lrrrrrr', width)
  const checks = stages.flatMap((s) =>
    s.metrics.checks.map(({ against, result }) => {
      const { disabled, all } = result.byOptimisation
      const level = (l: typeof all): string => (l.top1 === null ? '-' : percent(l.top1, 2))
      const reference = result.reference.top1 === null ? '-' : percent(result.reference.top1, 2)
      return [`${s.stage} against ${against}`, reference, level(disabled), level(all), percent(all.agreement, 2)]
    }),
  )
  if (checks.length === 0) return body
  const checkHeads = ['check in onnxruntime', 'reference', 'ORT_DISABLE_ALL', 'ORT_ENABLE_ALL', 'same class']
  const metrics = stages.flatMap((s) =>
    s.metrics.checks.flatMap(({ against, result }) =>
      Object.entries(result.metrics ?? {}).map(([name, { reference, model, worse }]) => [
        `${s.stage} against ${against}`,
        ...[name, ...[reference, model, worse].map((x) => String(Number(x.toPrecision(5))))],
      ]),
    ),
  )
  const metricHeads = ['', 'metric', 'reference', 'model', 'worse by']
  return [
    body,
    table([checkHeads, ...checks], 'lrrrr', width),
    ...(metrics.length > 0 ? [table([metricHeads, ...metrics], 'llrrr', width)] : []),
  ].join('\n\n')
}

/** `4`, `32`, or a mean such as `4.6`. */
const bits = (mean: number): string => String(Number(mean.toFixed(1)))

async function showEstimate(recipe: Recipe, settings: RunOptions, io: CommandIO): Promise<void> {
  const { estimateRecipe } = await import('../recipes/estimate.ts')
  const { commandLines } = await import('../recipes/command-lines.ts')
  const onEvent = (event: RunEvent): void => {
    if (event.kind === 'log') io.log(event.message)
  }
  const estimates = await estimateRecipe(recipe, { ...settings, onEvent })
  const times = estimates.map((e) => e.seconds)
  const seconds = times.every((t) => t !== null) ? times.reduce((a, b) => a + b, 0) : null
  const facts = estimates.map(({ stage, reason, training, seconds }) => ({
    ...{ stage: stage.name, run: reason !== null, reason, from: sourceOf(stage), teacher: stage.teacher },
    ...{ commands: commandLines(stage), training, seconds },
  }))
  io.result({ recipe: recipe.name, workdir: settings.workdir, stages: facts, seconds }, () =>
    [
      ...estimates.map((e) => describe(e, commandLines(e.stage))),
      `in all ${seconds === null ? 'unknown' : `about ${formatDuration(seconds)}`} on this machine, as a few forward passes tell`,
    ].join('\n'),
  )
}

const sourceOf = ({ source }: Stage): string =>
  source.kind === 'build' ? source.reference : source.kind === 'file' ? source.path : source.name

const shortDuration = (seconds: number): string =>
  seconds < 10 ? `${seconds.toPrecision(2)} s` : formatDuration(seconds)

function describe({ stage, reason, training, seconds }: StageEstimate, commands: readonly string[]): string {
  const time = seconds === null ? 'time unknown' : `about ${formatDuration(seconds)}`
  const head = `${stage.name}  from ${sourceOf(stage)}  ${reason === null ? 'up to date' : `${time} (${reason})`}`
  const lines = commands.map((c) => `    ${c}`)
  if (training) {
    const { steps, secondsPerStep } = training
    const count = steps === null ? 'unknown' : steps.toLocaleString('en')
    const each = secondsPerStep === null ? null : shortDuration(secondsPerStep)
    lines.push(`    steps: ${count}${each === null ? '' : `, about ${each} each`}`)
  }
  return [head, ...(stage.description ? [`    ${stage.description}`] : []), ...lines].join('\n')
}
