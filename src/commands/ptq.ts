/** `mnc ptq`: post-training quantisation, all of it in one command. */
import { type OptionsOf, optionsIn } from '../base/options.ts'
import type { ArraySet } from '../data/array-set.ts'
import type { Preprocess } from '../data/preprocess.ts'
import { RANDOM, randomWarning, type TrainingData } from '../data/random-options.ts'
import type { Model } from '../graph/model.ts'
import type { PtqEvent, PtqResult, PtqStep } from '../ptq/ptq.ts'
import { ptqOptions } from '../ptq/ptq-options.ts'
import { SYNTHETIC, SYNTHETIC_SIZE, syntheticWarning } from '../ptq/synthetic/synthetic-options.ts'
import { probeOptions } from '../runtime/probe-options.ts'
import { sizeOptions } from '../samples/size-options.ts'
import { defineCommand, output } from './define-command.ts'
import type { CommandIO } from './io.ts'
import { openModel } from './open-model.ts'
import { outputBeside } from './pass.ts'
import { dataOptions, dataOptionWith, openFor, pixelOptions } from './pixel-options.ts'
import { formatDuration } from './progress.ts'
import { table } from './table.ts'
import { TrainingView } from './training-view.ts'

export const ptq = defineCommand({
  name: 'ptq',
  summary: 'Quantise a trained model with a few hundred unlabelled samples, and bring its outputs back',
  arguments: [{ name: 'MODEL', description: 'An .onnx file, its text form, or -' }],
  options: {
    data: dataOptionWith(
      '; its training images by default, labels are not read. random: inputs without meaning; synthetic, the default: inputs made from what BatchNormalization remembers. Real ones are better',
      [RANDOM, SYNTHETIC],
    ),
    ...dataOptions,
    ...pixelOptions,
    ...sizeOptions,
    ...ptqOptions,
    without: { ...ptqOptions.without, suggestions: async () => (await import('../ptq/steps.ts')).stepNames },
    ...probeOptions,
    explain: { type: 'boolean', default: false, description: 'Say what was left alone, and why' },
    output: { ...output, description: `${output.description}. The steps are written next to it, as OUT.recipe.json` },
  },
  examples: [
    'mnc ptq net.onnx --data cifar10:DIR -o net.int8.onnx',
    'mnc ptq net.onnx -o net.int8.onnx',
    'mnc ptq net.onnx --data folder:DIR --weight-bits 4 --effort best -o net.w4.onnx && mnc run net.w4.recipe.json',
  ],
  async run([path = ''], options, io) {
    const { writeFileAtomic } = await import('../base/files.ts')
    const { writeModel } = await import('../codec/codec.ts')
    const { describeDeclined } = await import('../layers/left-weights.ts')
    const { cacheFolder } = await import('../runtime/ort/session-cache.ts')
    const { recordSizes } = await import('../samples/input-shapes.ts')
    const { ptq } = await import('../ptq/ptq.ts')
    const { recipeOf } = await import('../ptq/recipe-of.ts')
    const model = await openModel(path, io)
    recordSizes([model], options)
    const own = Object.fromEntries(Object.keys(ptqOptions).map((k) => [k, options[k as keyof typeof options]]))
    const out = options.output ?? outputBeside(path, 'ptq')
    const recipe = out === '-' || path === '-' ? null : recipePath(out)
    const kept = recipe === null ? undefined : inputsReference(out)
    const { data, preprocess, made } = await openData(model, options, io, kept)
    const view = new PtqView(io)
    try {
      const run = { data, preprocess, options: own, seed: io.seed, cache: cacheFolder() }
      const result = await ptq(model, run, (event) => view.show(event))
      view.end()
      await writeModel(result.model, out)
      for (const line of describeDeclined('quantize', result.quantized, options.explain)) io.log(line)
      if (recipe !== null) {
        const { reference, map } = made ? await keep(made, out) : { reference: options.data!, map: options.map }
        const said = { reading: { ...optionsIn(dataOptions, options), map }, sizes: optionsIn(sizeOptions, options) }
        const name = nameFor(out)
        const facts = { name, model: path, data: reference, preprocess, seed: io.seed, ...said }
        await writeFileAtomic(recipe, `${JSON.stringify(recipeOf(result.sequence, facts), null, 2)}\n`)
      }
      if (out === '-') return
      const { model: _, sequence, ...facts } = result
      io.result({ output: out, recipe, ...facts, sequence }, (width) => describe(result, out, recipe, width))
    } finally {
      view.end()
    }
  },
})

type Options = OptionsOf<typeof dataOptions> &
  OptionsOf<typeof pixelOptions> &
  Pick<OptionsOf<typeof ptqOptions>, 'effort' | 'limit'> & { readonly data?: string | undefined }

interface Opened {
  readonly data: TrainingData
  readonly preprocess?: Preprocess | undefined
  /** Inputs that were made here, which a recipe needs in a file. */
  readonly made?: ArraySet
}

/** `kept`: the reference that made inputs will have. */
async function openData(model: Model, options: Options, io: CommandIO, kept: string | undefined): Promise<Opened> {
  const { data: reference = SYNTHETIC, effort, limit } = options
  if (reference === RANDOM) {
    io.log(randomWarning('quantising on'))
    return { data: RANDOM }
  }
  if (reference !== SYNTHETIC) return openFor(model, reference, 'train', options, io)
  const { pixelsOf } = await import('../data/index.ts')
  const { syntheticInputs } = await import('../ptq/synthetic/synthetic-inputs.ts')
  io.log(syntheticWarning)
  const { samples, steps } = SYNTHETIC_SIZE[effort]
  const size = {
    ...{ samples: Math.min(samples, limit), steps, seed: io.seed },
    ...(kept !== undefined && { name: `${kept}#train` }),
  }
  const made = await syntheticInputs(model, size, (message) => io.log(message))
  return { data: made, preprocess: await pixelsOf(model, made, optionsIn(pixelOptions, options)), made }
}

/** Writes made inputs where a recipe finds them. */
async function keep(made: ArraySet, out: string) {
  const { writeNpyFolder } = await import('../data/npy-writer.ts')
  return { map: await writeNpyFolder(made, inputsFolder(out)), reference: inputsReference(out) }
}

const inputsFolder = (out: string): string => `${out.replace(/\.onnx$/, '')}.inputs`

const inputsReference = (out: string): string => `npy:${inputsFolder(out)}`

const recipePath = (out: string): string => `${out.replace(/\.onnx$/, '')}.recipe.json`

/** A valid name for the recipe. */
const nameFor = (out: string): string => {
  const base = out.replace(/^.*[\\/]/, '').replace(/\.\w+$/, '')
  return base.replace(/^\.+/, '') || 'ptq'
}

/** A line when a step ends, a bar while one trains. */
class PtqView {
  readonly #io: CommandIO
  #training: TrainingView | null = null

  constructor(io: CommandIO) {
    this.#io = io
  }

  show(event: PtqEvent): void {
    if (event.kind === 'train') {
      this.#training ??= new TrainingView(this.#io, 'refine')
      this.#training.show(event.event)
      return
    }
    this.end()
    if (event.kind === 'start') {
      const by = event.criteria.map((c) => `${c.output} by ${c.loss}`).join(', ')
      this.#io.log(`${event.fitted} samples to calibrate and train on, ${event.judged} to judge; ${by}`)
    } else if (event.kind === 'begin') this.#io.log(`${event.step} ...`)
    else if (event.kind === 'step') this.#io.log(`${event.step.name}: ${outcomeOf(event.step)}`)
    else this.#io.log(event.message)
  }

  end(): void {
    this.#training?.end()
    this.#training = null
  }
}

const outcomeOf = ({ outcome, distance, reason, seconds }: PtqStep): string => {
  const said = { kept: 'kept', 'taken-back': 'taken back', failed: 'not possible', idle: 'not needed' }[outcome]
  const far = distance === null ? '' : `distance ${shown(distance)}, `
  return `${far}${said}${reason === null ? '' : ` (${reason})`}, ${formatDuration(seconds)}`
}

const shown = (distance: number): string => (Number.isFinite(distance) ? distance.toPrecision(4) : String(distance))

function describe({ steps, distance }: PtqResult, out: string, recipe: string | null, width: number): string {
  const rows = steps.map((s) => [
    s.name,
    s.distance === null ? '-' : shown(s.distance),
    formatDuration(s.seconds),
    s.outcome.replace('-', ' '),
  ])
  const next = [
    `mnc export ${out} --format int8 -o FILE    a file for integer kernels; --format packed: the smallest`,
    ...(recipe === null ? [] : [`mnc run ${recipe}    the same again`]),
  ]
  return [
    table([['step', 'distance', 'time', ''], ...rows], 'lrrl', width),
    '',
    `${shown(distance)} from the float model, on samples that nothing was fitted to`,
    out,
    ...(recipe === null ? [] : [recipe]),
    '',
    'next:',
    ...next.map((line) => `  ${line}`),
  ].join('\n')
}
