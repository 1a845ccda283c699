/** Turns a run into all that its loop works with: options, data, a checkpoint to resume from, the loaded step graph. */
import { modelError, usageError } from '../../base/errors.ts'
import { parseOptions } from '../../base/options.ts'
import { ArraySet } from '../../data/array-set.ts'
import { statedClasses } from '../../data/preprocess.ts'
import type { MetricDef } from '../../evaluate/metrics/define-metric.ts'
import { writeClassOrder } from '../../graph/class-names.ts'
import { refuseToTrain } from '../../graph/exported.ts'
import type { Model } from '../../graph/model.ts'
import { writeSampleRate } from '../../graph/sample-rate.ts'
import { requireFinite } from '../../layers/finite.ts'
import { trainingWarning } from '../../layers/training-mode.ts'
import { leaveEarlyOpsets } from '../../ops/raise-opset.ts'
import { fixOverridable } from '../../pass-manager/overridable.ts'
import { liftConstants } from '../../passes/fold-constants.ts'
import { inlineFunctions } from '../../passes/inline-functions.ts'
import { openDevice } from '../../runtime/devices/device.ts'
import type { Executor } from '../../runtime/executor.ts'
import { separateStatistics } from '../step/batch-statistics.ts'
import { separateScales } from '../step/learned-scales.ts'
import { StepRunner } from '../step/step-runner.ts'
import { type TrainOptions, trainOptions } from '../train-options.ts'
import { validationMetric } from './best-epoch.ts'
import { bestPathOf, type Checkpoint, loadBest, loadCheckpoint } from './checkpoint.ts'
import { EngineProfile } from './engine-profile.ts'
import { type Fit, fitMemory } from './fit-memory.ts'
import { cutFrozen } from './frozen-features.ts'
import { maskScheduleFault } from './mask-schedule.ts'
import {
  checkClasses,
  checkTargets,
  type DataPlan,
  hostSelector,
  identityOf,
  parameterSizes,
  planData,
  planStep,
  stepsOf,
} from './step-plan.ts'
import { Together } from './together.ts'
import type { StartEvent, TrainRun } from './train-run.ts'

export interface Prepared {
  readonly model: Model
  readonly run: TrainRun
  readonly options: TrainOptions
  readonly data: DataPlan
  readonly executor: Executor
  /** What a checkpoint must agree on (identityOf). */
  readonly identity: string
  readonly runner: StepRunner
  readonly together: Together
  /** Where memory is limited. */
  readonly fit: Fit | null
  readonly profile: EngineProfile | null
  readonly checkpoint: Checkpoint | null
  /** The best epoch's model of the run that is resumed. */
  readonly best: Model | null
  /** What is measured on the part held out; null where there is none. */
  readonly metric: MetricDef | null
  readonly start: Pick<StartEvent, 'warnings' | 'seconds' | 'memory'>
}

/** Edits `model` in place: defaults fixed, functions inlined, state separated, and a checkpoint's values where there is one. */
export async function prepareTraining(model: Model, run: TrainRun): Promise<Prepared> {
  const started = performance.now()
  const together = new Together(run.ranks)
  const given = parseOptions(trainOptions, run.options ?? {}, 'train')
  const all = forAllRanks(given, together)
  const isNormalisedTogether = together.normalised > 1
  if (isNormalisedTogether && given.memory !== undefined)
    throw usageError('--memory divides batches, which --sync-bn normalises as one', 'leave one out')
  if (isNormalisedTogether && run.profile !== undefined)
    throw usageError(
      '--profile times a step in one piece, which --sync-bn stops at every normalisation',
      'leave one out',
    )
  refuseToTrain(model)
  const said = [fixOverridable(model), trainingWarning(model), run.teacher && trainingWarning(run.teacher.model)]
  const warnings = said.filter((w) => typeof w === 'string')
  for (const m of [model, run.teacher?.model]) if (m) leaveEarlyOpsets(m, (message) => warnings.push(message))
  if (!all.allowNonfinite) for (const m of [model, run.teacher?.model]) if (m) requireFinite(m)
  const executor = run.executor ?? (await openDevice(all.device))
  const planned = await planData(model, run, all)
  if (isNormalisedTogether && !executor.exchanges)
    throw usageError(`${executor.device.description} cannot stop a step for --sync-bn`, 'use --device cpu')
  if (isNormalisedTogether && planned.source.batch !== given.batch)
    throw usageError(
      `the model runs at batches of ${planned.source.batch} only, which --sync-bn would normalise as one of ${planned.source.batch * together.size}`,
      `use --batch ${planned.source.batch}`,
    )
  nameClasses(model, planned.images?.classNames)
  if (run.data instanceof ArraySet) describeArrays(model, run.data)
  const { last } = stepsOf(all, planned.source.stepsPerEpoch)
  if (all.maxSteps !== undefined && all.maxSteps > last)
    warnings.push(
      `--epochs ${all.epochs} ends the run after ${last} ${last === 1 ? 'step' : 'steps'}, before --max-steps ${all.maxSteps}`,
    )
  const fault = maskScheduleFault(all, last)
  if (fault) throw fault
  inlineFunctions(model)
  liftConstants(model.graph)
  separateScales(model.graph)
  separateStatistics(model.graph)
  const fit = await fitMemory(model, run, given, all, planned, executor)
  const own = { ...given, ...fit?.divided }
  const o = forAllRanks(own, together)
  const data = fit?.data ?? planned
  const identity = identityOf(model, run, together.asOne(own), data.source)
  const sizes = parameterSizes(model, o)
  const checkpoint = run.resume && run.checkpoint ? await loadCheckpoint(run.checkpoint, identity) : null
  const best = checkpoint && data.validation ? await loadBest(bestPathOf(run)!, checkpoint.position) : null
  if (checkpoint) adopt(model, checkpoint.model)
  const { images } = data
  const fed = images &&
    run.preprocess && { images, preprocess: run.preprocess, source: data.source, seed: run.seed ?? 0 }
  const cut = fed ? await cutFrozen(model, run, o, fed, hostSelector(model, o)) : null
  const taught = cut ? { ...run, teacher: cut.teacher } : run
  const step = await planStep(cut?.model ?? model, model, taught, o, data.source, executor, sizes, together.normalised)
  checkClasses(step, data.source)
  checkTargets(step, data.source)
  const unused = data.source.arrays?.unused.map((c) => c.name) ?? []
  if (unused.length > 0) warnings.push(`arrays that no output is named after are not used: ${unused.join(', ')}`)
  const metric = validationMetric(model, o, data)
  if (metric?.against === 'labels') requireClassifier(model, step.outputDims)
  const profile = run.profile === undefined ? null : await EngineProfile.begin(run.profile)
  const load = {
    ...{ threads: o.threads, native: o.native, cache: run.cache },
    ...{ sharedSum: together.sumOf(step), exchange: together.exchange, recompute: fit?.plan.recomputed },
    ...(profile && { profilePrefix: profile.prefix }),
  }
  const runner = await StepRunner.create(step, executor, load).catch(async (error: unknown) => {
    await profile?.close()
    throw error
  })
  const drawn = cut ? { ...data, source: cut.source } : data
  return {
    ...{ model, run, options: o, data: drawn, executor, identity, runner, profile, checkpoint, best, metric },
    ...{ together, fit },
    start: { warnings, seconds: (performance.now() - started) / 1000, ...(fit && { memory: fit.plan }) },
  }
}

/** A step is the same whatever the number of ranks that share its batches. */
const forAllRanks = (own: TrainOptions, { size }: Together): TrainOptions => ({
  ...own,
  accumulate: own.accumulate * size,
})

/** A set whose classes cannot be the outputs', from which a teacher teaches without labels, names nothing. */
function nameClasses(model: Model, names: readonly string[] | undefined): void {
  const stated = statedClasses(model)
  if (names && (stated === null || stated === names.length)) writeClassOrder(model, names)
}

function describeArrays(model: Model, { isLabelled, classNames, sampleRate }: ArraySet): void {
  if (isLabelled) nameClasses(model, classNames)
  if (sampleRate !== undefined) writeSampleRate(model, sampleRate)
}

function requireClassifier(model: Model, dims: readonly unknown[] | null): void {
  if (dims?.length === 2) return
  throw modelError(
    'not-a-classifier',
    `'${model.graph.outputs[0]?.name}' is not a [batch, classes] output, so accuracy cannot be measured`,
    {
      next: 'leave out --val-fraction',
    },
  )
}

/** Takes all initializers of `from`, a model of the same structure. */
export function adopt(model: Model, from: Model | null): void {
  if (!from) return
  for (const v of from.graph.initializers()) {
    const own = model.graph.find(v.name)
    if (own?.constant && v.constant && !own.constant.equals(v.constant)) own.setConstant(v.constant)
  }
}
