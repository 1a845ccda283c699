/** `mnc train`: trains or distils a model as it is, respecting masks, quantisers and frozen parts. */
import { type OptionsOf, optionTable } from '../base/options.ts'
import { RANDOM, randomWarning } from '../data/random-options.ts'
import { metricRegistry } from '../evaluate/metrics/index.ts'
import type { Model } from '../graph/model.ts'
import { probeOptions } from '../runtime/probe-options.ts'
import { sizeOptions } from '../samples/size-options.ts'
import { ranksOptions } from '../train/ranks-options.ts'
import { trainOptions } from '../train/train-options.ts'
import { defineCommand, output } from './define-command.ts'
import { interruptible } from './interrupt.ts'
import type { CommandIO } from './io.ts'
import { outputBeside } from './pass.ts'
import { dataOptions, dataOptionWith, openFor, pixelOptions } from './pixel-options.ts'
import { type Ranks, together } from './ranks.ts'
import { TrainingView } from './training-view.ts'

const table = optionTable({
  data: dataOptionWith('; random: generated inputs, with --teacher', [RANDOM]),
  ...dataOptions,
  ...pixelOptions,
  ...sizeOptions,
  teacher: { type: 'string', placeholder: 'FILE', description: 'Network whose outputs the model learns' },
  ...trainOptions,
  metric: {
    ...trainOptions.metric,
    get suggestions(): readonly string[] {
      return metricRegistry.names
    },
  },
  ...ranksOptions,
  resume: { type: 'boolean', default: false, description: 'Continue from the checkpoint, if there is one' },
  checkpointMinutes: { type: 'number', exclusiveMinimum: 0, default: 10, description: 'Minutes between checkpoints' },
  checkpointSteps: { type: 'integer', minimum: 1, description: 'Steps between checkpoints, in addition' },
  log: { type: 'string', placeholder: 'FILE.jsonl', description: 'Write one JSON object per step and per epoch' },
  tensorboard: { type: 'string', placeholder: 'DIR', description: 'Write event files for TensorBoard' },
  profile: {
    type: 'string',
    placeholder: 'FILE.json',
    description:
      "Print where a step's time goes, by kind of work and layer, and write the engine's profile as a Chrome trace",
  },
  ...probeOptions,
  output,
})

export const train = defineCommand({
  name: 'train',
  summary: 'Train a model: from scratch, fine-tuning, or with a teacher',
  arguments: [{ name: 'MODEL', description: 'An .onnx file, its text form, or -' }],
  options: table,
  examples: [
    'mnc train student.prune.onnx --teacher teacher.onnx --data cifar100:data -o s1.onnx',
    'mnc train net.onnx --data cifar10:data --epochs 10 --lr 0.01 --val-fraction 0.1 --resume',
    'mpirun -n 4 mnc train net.onnx --data cifar10:data --batch 32',
  ],
  run: ([path = ''], given, io) => together(io, (ranks, ready, own) => trainModel(path, given, own, ranks, ready)),
})

async function trainModel(
  path: string,
  options: OptionsOf<typeof table>,
  io: CommandIO,
  ranks: Ranks | null,
  ready: () => void,
): Promise<void> {
  const { fingerprint, readModel, writeModel } = await import('../codec/codec.ts')
  const { train } = await import('../train/loop/trainer.ts')
  const { Together } = await import('../train/loop/together.ts')
  const { writePreprocess } = await import('../data/preprocess.ts')
  const { recordTraining } = await import('../train/loop/record.ts')
  const { TrainingLog } = await import('../train/loop/training-log.ts')
  const { cacheFolder } = await import('../runtime/ort/session-cache.ts')
  const { TensorBoardLog } = await import('../train/loop/tensorboard.ts')
  const model = await readModel(path)
  const teacherModel = options.teacher === undefined ? undefined : await readModel(options.teacher)
  const { recordSizes } = await import('../samples/input-shapes.ts')
  recordSizes(teacherModel ? [model, teacherModel] : [model], options)
  const identity = await hashOf(model, teacherModel)
  const { data, preprocess } =
    options.data === RANDOM ? randomInputs(io) : await openFor(model, options.data, 'train', options, io)
  const input = fingerprint(model)
  if (preprocess) writePreprocess(model, preprocess)
  const teacher = teacherModel && { model: teacherModel, preprocess: await teacherPixels(teacherModel) }
  const out = options.output ?? outputBeside(path, 'train')
  const checkpoint = out === '-' ? undefined : outputBeside(out, 'checkpoint')
  const given = Object.fromEntries(Object.keys(trainOptions).map((k) => [k, options[k as keyof typeof options]]))
  const own = { ...given, threads: options.threads || (ranks?.threads ?? 0) }
  if (options.syncBn && !ranks) io.log('--sync-bn: one process sees the whole batch by itself, so that nothing changes')
  const isFirst = !ranks || ranks.group.rank === 0
  const stop = interruptible()
  const log = options.log === undefined || !isFirst ? null : new TrainingLog(options.log)
  const board = options.tensorboard === undefined || !isFirst ? null : new TensorBoardLog(options.tensorboard)
  const view = new TrainingView(io)
  try {
    const run = {
      ...{ data, preprocess, teacher, checkpoint, options: own, seed: io.seed, signal: stop.signal },
      ...{ resume: options.resume, checkpointMinutes: options.checkpointMinutes },
      ...{ checkpointSteps: options.checkpointSteps, profile: isFirst ? options.profile : undefined },
      ...{ identity, cache: cacheFolder() },
      ...(ranks && {
        ranks: {
          group: ranks.group,
          reduce: options.reduce,
          syncBn: options.syncBn,
          compareEvery: options.compareEvery,
        },
      }),
    }
    const { divided, ...summary } = await train(model, run, async (event) => {
      if (event.kind === 'start') {
        ready()
        if (ranks) io.log(`${ranks.description}, ${own.threads} ${own.threads === 1 ? 'thread' : 'threads'} each`)
      }
      // before the first step there is nothing to save, and the engine may take long, or forever
      if (event.kind === 'step') stop.arm()
      view.show(event)
      await log?.write(event)
      await board?.write(event)
    })
    const source = data === RANDOM ? RANDOM : data.name
    if (!isFirst) return
    const { batch, accumulate } = { ...options, ...divided }
    const asOne = new Together(run.ranks).asOne({ ...own, batch, accumulate })
    recordTraining(model, { options: asOne, data: source, seed: io.seed, input, summary })
    await writeModel(model, out)
    await dropCheckpoint(checkpoint, options.valFraction > 0)
    io.wrote(out, { ...summary })
  } finally {
    view.end()
    stop.disarm()
    await log?.close()
    await board?.close()
  }

  /** A teacher without a record is assumed to read what the student reads. */
  async function teacherPixels(t: NonNullable<typeof teacherModel>) {
    const { readPreprocess } = await import('../data/preprocess.ts')
    return readPreprocess(t) ?? preprocess
  }
}

function randomInputs(io: CommandIO): { data: typeof RANDOM; preprocess?: undefined } {
  io.log(randomWarning('training on'))
  return { data: RANDOM }
}

/** Hashes of the files that the run began with, which a checkpoint must match. */
async function hashOf(...models: (Model | undefined)[]): Promise<string> {
  const { createHash } = await import('node:crypto')
  const { encodeModel } = await import('../codec/codec.ts')
  const hash = createHash('sha256')
  for (const model of models) if (model) hash.update(encodeModel(model))
  return hash.digest('hex').slice(0, 16)
}

/** A finished run needs no checkpoint, but where the best epoch was chosen, the last epoch is kept too. */
async function dropCheckpoint(path: string | undefined, keep: boolean): Promise<void> {
  if (!path || keep) return
  const { rm } = await import('node:fs/promises')
  await rm(path, { force: true })
}
