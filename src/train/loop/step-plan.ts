/** Turns a run's options into the step graph, the schedule and the batches. */
import { createHash } from 'node:crypto'
import { usageError } from '../../base/errors.ts'
import { nearest } from '../../base/options.ts'
import { ArraySet, type SampleSet } from '../../data/array-set.ts'
import { checkNumbers } from '../../data/bind.ts'
import { checkSameOrder, inModelOrder } from '../../data/class-order.ts'
import type { Dataset } from '../../data/dataset.ts'
import { loadPolicy } from '../../data/policy-file.ts'
import { RANDOM } from '../../data/random-options.ts'
import type { Model } from '../../graph/model.ts'
import { globToRegExp } from '../../layers/select.ts'
import { inferenceForm } from '../../layers/training-mode.ts'
import type { Executor } from '../../runtime/executor.ts'
import type { TargetForm } from '../step/data-targets.ts'
import { hostConstantNames } from '../step/host-constants.ts'
import { needsOf } from '../step/objectives.ts'
import { type OptimizerOptions, optimizerDefaults } from '../step/optimizers.ts'
import { buildStep } from '../step/step-graph.ts'
import type { StepGraph, TeacherOptions } from '../step/step-options.ts'
import { adapterBetween, prepareTeacher } from '../step/teacher.ts'
import type { TrainOptions } from '../train-options.ts'
import { type BatchSource, randomSource, sourceOf } from './batch-source.ts'
import type { ScheduleOptions } from './schedule.ts'
import { measureVariances } from './teacher-variance.ts'
import type { TrainRun } from './train-run.ts'
import { trainingPlan } from './training-plan.ts'

export interface DataPlan {
  readonly source: BatchSource
  readonly validation: SampleSet | null
  /** Images that `source` draws from; null for inputs that are not. */
  readonly images: Dataset | null
}

/** Batches of the training part, and the part held out. */
export async function planData(model: Model, run: TrainRun, o: TrainOptions): Promise<DataPlan> {
  const seed = run.seed ?? 0
  const { batch, accumulate: parts, augment, workers, valFraction } = o
  // a model in training mode would seem to take one sample at a time
  const forward = inferenceForm(model)
  if (run.data === RANDOM) {
    if (valFraction > 0) throw usageError('--val-fraction measures accuracy, and random inputs have no labels')
    const plan = await trainingPlan(forward, run, batch)
    const source = await randomSource(forward, { batch, parts, seed, size: o.limit }, plan)
    return { source, validation: null, images: null }
  }
  const own = inModelOrder(model, run.data)
  if (run.teacher) checkSameOrder(model, run.teacher.model, 'the teacher')
  const data = run.teacher ? inModelOrder(run.teacher.model, own) : own
  const limited = o.limit === undefined ? data : data.take(o.limit)
  const { train, validation } =
    valFraction > 0 ? limited.splitValidation(valFraction, seed) : { train: limited, validation: null }
  const plan = await trainingPlan(forward, run, batch)
  const source = sourceOf(forward, train, run.preprocess, { batch, parts, seed, augment, workers }, plan)
  return { source, validation, images: train instanceof ArraySet ? null : train }
}

export function optimizerOf(o: TrainOptions): OptimizerOptions {
  const { optimizer, momentum, nesterov, weightDecay, clipNorm } = o
  return { ...optimizerDefaults, optimizer, momentum, nesterov, weightDecay, clipNorm }
}

/** Steps of the whole schedule, and how many of them are done. */
export function stepsOf(o: TrainOptions, stepsPerEpoch: number): { total: number; last: number } {
  const total = Math.max(1, Math.round(o.epochs * stepsPerEpoch))
  return { total, last: Math.min(total, o.maxSteps ?? total) }
}

export function scheduleOf(o: TrainOptions, stepsPerEpoch: number, totalSteps: number): ScheduleOptions {
  const warmupSteps = o.warmupSteps ?? Math.round(o.warmupEpochs * stepsPerEpoch)
  const lr = o.lr ?? (o.optimizer === 'sgd' ? 0.1 : 0.001)
  const { schedule, warmupFrom, milestones, gamma } = o
  return { schedule, lr, totalSteps, warmupSteps, warmupFrom, milestones, gamma }
}

/** Constants that are changed between steps, by name. */
export function hostSelector(model: Model, o: TrainOptions): (name: string) => boolean {
  const names = hostConstantNames(model, {
    masks: o.maskUpdateEvery > 0 && o.maskUpdateUntil > 0,
    scales: o.scales === 'refit',
  })
  return (name) => names.has(name)
}

/**
 * `whole`: the model that `model` is a part of, where a frozen front was cut off; `ranks`: processes whose batches are
 * normalised as one.
 */
export async function planStep(
  model: Model,
  whole: Model,
  run: TrainRun,
  o: TrainOptions,
  source: BatchSource,
  executor: Executor,
  sizes: ParameterSizes | null,
  ranks: number,
  variances = (part: Model, name: string) => measureVariances(part, name, source, executor),
): Promise<StepGraph> {
  const { loss, lossWeight, lossAxis, alpha, temperature, precision } = o
  const needs = needsOf(o, run.teacher !== undefined)
  const targets = targetForms(source)
  if (needs.teacher && !run.teacher && targets.size === 0)
    throw usageError(
      `--loss ${shown(loss)} compares with a teacher`,
      nothingWanted(model, source) ?? 'give --teacher FILE',
    )
  if (source.classes === null && needs.labels && targets.size === 0)
    throw usageError(
      `${run.data === RANDOM ? 'random inputs have' : `${source.name} has`} no labels for cross entropy`,
      nothingWanted(model, source) ?? 'give a --teacher and leave --alpha at 1',
    )
  const learnScales = o.scales === 'learn'
  if (precision === 'float16' && executor.float16 && !(await executor.float16()))
    throw usageError(`${executor.device.description} does not compute in float16`, 'use --precision float32')
  const { batch, parts: accumulate, dims: inputDims } = source
  const options = {
    ...{ batch, inputDims, accumulate, learnScales, precision, optimizer: optimizerOf(o) },
    ...{ loss, lossWeight, lossAxis, alpha, temperature, targets, labels: source.classes !== null },
    batchStatistics: o.bn === 'batch',
    ranks,
    native: o.native && ranks === 1 && (await executor.nativeKernels?.()) != null,
    // tiles are for a processor's caches; other devices want few, large kernels
    tiles: executor.device.id === 'cpu' && source.isDivisible ? undefined : 1,
    teacher: needs.teacher && run.teacher ? await teacherOf(run, o, variances) : undefined,
    origins: run.profile !== undefined,
    learningRateOf: learningRateOf(o, whole, sizes),
    weightDecayOf: o.decayAll ? undefined : (name: string) => ((model.graph.find(name)?.dims.length ?? 0) > 1 ? 1 : 0),
  }
  return buildStep(model, options, hostSelector(whole, o))
}

/** Arrays of the data by the output that they are for, as one part of a batch has them. */
function targetForms({ arrays, batch }: BatchSource): Map<string, TargetForm> {
  const forms = [...(arrays?.targets ?? [])].map(([output, { name, elem, dims, file }]): [string, TargetForm] => [
    output,
    { name, elem, file, dims: arrays!.wholeRuns ? dims : [batch, ...dims] },
  ])
  return new Map(forms)
}

/** What to do where arrays are for no output; null where there are none. */
function nothingWanted({ graph }: Model, { arrays }: BatchSource): string | null {
  const names = arrays?.unused.map((c) => c.name) ?? []
  if (names.length === 0) return null
  const outputs = graph.outputs.map((v) => v.name)
  return `its arrays ${names.join(', ')} are for none of the outputs ${outputs.join(', ')}: say which with --map ${outputs[0]}=${names[0]}`
}

/** Numbers of arrays that train outputs: finite, and classes among the output's. A usage error that names file and sample. */
export function checkTargets({ goals }: StepGraph, { arrays }: BatchSource): void {
  for (const [output, { classes }] of goals) {
    const most = classes === null ? Number.POSITIVE_INFINITY : classes - 1
    const least = classes === null ? Number.NEGATIVE_INFINITY : Number.MIN_SAFE_INTEGER
    checkNumbers(arrays!.targets.get(output)!, [least, most], `output '${output}' with ${classes} classes`)
  }
}

const shown = (loss: TrainOptions['loss']): string =>
  typeof loss === 'object'
    ? Object.entries(loss)
        .map((pair) => pair.join('='))
        .join(',')
    : String(loss)

async function teacherOf(
  { teacher, preprocess }: TrainRun,
  o: TrainOptions,
  variances: TeacherOptions['variances'],
): Promise<TeacherOptions | undefined> {
  if (!teacher) return undefined
  const batchStatistics = o.teacherBn === 'batch'
  const adapter = preprocess && teacher.preprocess ? adapterBetween(preprocess, teacher.preprocess) : undefined
  return { model: await prepareTeacher(teacher.model, batchStatistics), adapter, batchStatistics, variances }
}

/** Root mean squares of initializers by name. */
export type ParameterSizes = ReadonlyMap<string, number>

/** A parameter of zeros is not stuck there (Adafactor, Shazeer & Stern 2018, takes the same for its relative steps). */
const LEAST_SIZE = 1e-3

/** As they are at a run's start, before a checkpoint is taken up; null if learning rates are not relative to them. */
export function parameterSizes(model: Model, { relativeLr }: TrainOptions): ParameterSizes | null {
  if (!relativeLr) return null
  const floats = Array.from(model.graph.initializers()).filter((v) => v.constant?.type.includes('float'))
  return new Map(floats.map((v) => [v.name, Math.max(LEAST_SIZE, rootMeanSquare(v.constant!.toFloat32()))]))
}

function rootMeanSquare(x: Float32Array): number {
  let sum = 0
  for (let i = 0; i < x.length; i++) sum += x[i]! ** 2
  return Math.sqrt(sum / Math.max(1, x.length))
}

/** Factors on the learning rate by name of the parameter; undefined where all are 1. */
function learningRateOf(o: TrainOptions, model: Model, sizes: ParameterSizes | null) {
  const given = o.lrFactor && factorOf(o.lrFactor, model)
  if (!sizes) return given
  return (name: string): number => (sizes.get(name) ?? 1) * (given?.(name) ?? 1)
}

/** The first pattern that a name fits decides. A usage error for a pattern that matches nothing. */
function factorOf(factors: Readonly<Record<string, number>>, model: Model): (name: string) => number {
  const rules = Object.entries(factors).map(([glob, factor]) => ({ re: globToRegExp(glob), factor }))
  const names = Array.from(model.graph.initializers(), (v) => v.name)
  Object.keys(factors).forEach((glob, i) => {
    if (names.some((name) => rules[i]!.re.test(name))) return
    const near = nearest(glob, names)
    const next = near ? `did you mean '${near}'?` : `there are ${names.slice(0, 5).join(', ')}, ...`
    throw usageError(`--lr-factor ${glob} matches no initializer`, next)
  })
  return (name) => rules.find((r) => r.re.test(name))?.factor ?? 1
}

export function checkClasses(step: StepGraph, source: BatchSource): void {
  if (step.classes === null || step.classes === source.classes) return
  throw usageError(`the model has ${step.classes} classes, but ${source.name} has ${source.classes}`)
}

/**
 * What a checkpoint must agree on to be this run's: everything that the weights depend on, including images, labels and
 * preprocessing. Not the threads, the device and its kernels, nor how far to go.
 */
export function identityOf(model: Model, run: TrainRun, o: TrainOptions, source: BatchSource): string {
  const {
    threads: _threads,
    memory: _memory,
    device: _device,
    native: _native,
    workers: _workers,
    maxSteps: _steps,
    patience: _patience,
    ...options
  } = o
  const structure = Array.from(model.graph.initializers(), (v) => `${v.name} ${v.constant?.dims.join('x')}`).sort()
  const content = run.data === RANDOM ? undefined : run.data.contentHash().slice(0, 16)
  return JSON.stringify({
    ...{ ...options, policy: loadPolicy(o.augment) },
    ...{ seed: run.seed ?? 0, data: source.name, images: source.size, content, inputs: run.identity },
    ...{ pixels: run.preprocess, teacherPixels: run.teacher?.preprocess },
    model: createHash('sha256').update(structure.join('\n')).digest('hex').slice(0, 16),
  })
}
