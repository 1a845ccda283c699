/**
 * Keeps a run under a limit of memory: first the activations of a step that are cheap to make are computed again rather than
 * kept, which changes no bit of the results; then a batch is divided into 2, 3, ... equal runs whose gradients are accumulated,
 * so that BatchNormalization sees fewer inputs at a time. As few activations as it takes, then as few runs.
 *
 * What a run takes is estimated from sizes alone, so that the same options on the same machine always choose the same.
 * Not counted: validation on the part held out, which runs the network forwards.
 */
import { parseBytes, showBytes } from '../../base/amounts.ts'
import { usageError } from '../../base/errors.ts'
import { RANDOM } from '../../data/random-options.ts'
import { cloneModel } from '../../graph/clone.ts'
import type { Model } from '../../graph/model.ts'
import { elementCount } from '../../graph/types.ts'
import type { Executor, StepMemory } from '../../runtime/executor.ts'
import type { StepGraph } from '../step/step-options.ts'
import type { TrainOptions } from '../train-options.ts'
import type { BatchSource } from './batch-source.ts'
import { type DataPlan, parameterSizes, planData, planStep } from './step-plan.ts'
import type { MemoryEvent, MemoryPlan, TrainRun } from './train-run.ts'

/** Node.js, mnc and the engine's library, before there is a model. */
const PROCESS_BYTES = 190e6
/** A thread of the loader, without its batches. */
const WORKER_BYTES = 15e6
/** How often all parameters are in memory beside the state: in the model, its copies, the encoded step. */
const PARAMETER_COPIES = 4

/** Says once that the process has taken more than it was to. */
class MemoryWatch {
  readonly #limit: number
  #isOver = false

  constructor(limit: number) {
    this.#limit = limit
  }

  *exceeded(): Generator<MemoryEvent, void, undefined> {
    const peak = process.resourceUsage().maxRSS * 1024
    if (this.#isOver || peak <= this.#limit) return
    this.#isOver = true
    yield { kind: 'memory', peak, limit: this.#limit }
  }
}

/** What a run is trained with in place of its options. */
export interface Fit {
  readonly data: DataPlan
  readonly plan: MemoryPlan
  readonly watch: MemoryWatch
  readonly divided: { readonly batch: number; readonly accumulate: number } | null
}

/**
 * `o`: the options with the batches of all ranks, `own`: those of this process. `data`: planned for `o`. A usage error
 * where nothing is enough, with the least that is.
 */
export async function fitMemory(
  model: Model,
  run: TrainRun,
  own: TrainOptions,
  o: TrainOptions,
  data: DataPlan,
  executor: Executor,
): Promise<Fit | null> {
  if (own.memory === undefined) return null
  const limit = parseBytes(own.memory, '--memory')
  if (!executor.stepMemory)
    throw usageError(`--memory: what a step takes is not known on ${executor.device.description}`, 'use --device cpu')
  const isFree = data.source.batch === own.batch
  let least = { rest: 0, step: 0, batch: own.batch }
  for (const runs of isFree ? divisors(own.batch) : [1]) {
    const batch = own.batch / runs
    // a step of half the batch takes at least half the memory
    if (batch > 1 && least.rest + (least.step * batch) / least.batch > limit) continue
    const divided = { batch, accumulate: o.accumulate * runs }
    const now = runs === 1 ? data : await planData(model, run, { ...o, ...divided })
    const step = await stepOf(model, run, { ...o, ...divided }, now.source, executor)
    const memory = await executor.stepMemory(step.model, { native: o.native })
    const rest = restOf(run, o, step, now.source)
    const recomputed = fewest(memory, limit - rest)
    least = { rest, step: memory.bytes(memory.activations), batch }
    if (recomputed === null) continue
    const bytes = rest + memory.bytes(recomputed)
    const plan = { limit, bytes, recomputed, activations: memory.activations, batch: now.source.batch, runs }
    const watch = new MemoryWatch(limit)
    return { data: now, plan, watch, divided: runs === 1 ? null : { batch, accumulate: own.accumulate * runs } }
  }
  throw usageError(
    `--memory ${own.memory}: training takes at least ${showBytes(least.rest + least.step)}, with ${isFree ? 'batches of one input and ' : ''}all activations computed again that can be`,
    `raise --memory${o.workers > 1 ? ', or use fewer --workers' : ''}`,
  )
}

/** The step of a run as it will be, but for what is only known by running its teacher. */
function stepOf(
  model: Model,
  run: TrainRun,
  o: TrainOptions,
  source: BatchSource,
  executor: Executor,
): Promise<StepGraph> {
  const copy = cloneModel(model)
  const ones = async ({ graph }: Model): Promise<number[]> => graph.outputs.map(() => 1)
  return planStep(copy, copy, run, o, source, executor, parameterSizes(copy, o), 1, ones)
}

/** The fewest activations to be computed again for `room`, to a sixteenth of all; null where all are not enough. */
function fewest(memory: StepMemory, room: number): number | null {
  if (memory.bytes(0) <= room) return 0
  let [tooFew, enough] = [0, memory.activations]
  if (enough === 0 || memory.bytes(enough) > room) return null
  while (enough - tooFew > Math.max(1, memory.activations >> 4)) {
    const middle = (tooFew + enough) >> 1
    if (memory.bytes(middle) <= room) enough = middle
    else tooFew = middle
  }
  return enough
}

/** What the process takes beside the step: state, images, batches that wait. */
function restOf(
  { data, teacher }: TrainRun,
  o: TrainOptions,
  step: StepGraph,
  { dims, batch, parts }: BatchSource,
): number {
  const vectors = 2 * (1 + step.slots.length) + (step.update ? 2 : 0) + (o.ema > 0 ? 1 : 0)
  const parameters = 4 * (step.weights.size * (vectors + PARAMETER_COPIES) + 2 * step.statistics.size)
  const taught = teacher ? [...teacher.model.graph.initializers()] : []
  const teacherBytes = taught.reduce((sum, v) => sum + (v.constant?.byteLength ?? 0), 0)
  const inputs = Object.keys(dims).length > 0 ? Object.values(dims) : [[batch, ...step.inputDims.slice(1)]]
  const batchBytes = 4 * parts * inputs.reduce((sum, d) => sum + elementCount(d), 0)
  const waiting = data === RANDOM ? 1 : 2 * o.workers + 2
  const held = data === RANDOM ? 0 : data.heldBytes
  return PROCESS_BYTES + WORKER_BYTES * o.workers + held + parameters + 2 * teacherBytes + waiting * batchBytes
}

const divisors = (n: number): number[] => Array.from({ length: n }, (_, i) => i + 1).filter((d) => n % d === 0)
