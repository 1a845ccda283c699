/**
 * Pipelines: a list of named stages that one context goes through. After each stage the model is verified; an error says
 * which stage it came from; a watcher is told of every stage and the time it took (`--dump-stages DIR` writes the model as
 * text after each). Passes run as pipelines of one stage, so that a watcher sees those within pipelines, too.
 *
 * MNC_DEBUG=1 prints each stage with its time and node count on stderr, 2 also types the result through onnxruntime.
 */
import { AsyncLocalStorage } from 'node:async_hooks'
import { mkdir } from 'node:fs/promises'
import { join } from 'node:path'
import { bugError, MncError } from '../base/errors.ts'
import { writeFileAtomic } from '../base/files.ts'
import { type LongRun, stopIfAborted } from '../base/long-run.ts'
import { printModel } from '../codec/text.ts'
import { cloneModel } from '../graph/clone.ts'
import type { Model } from '../graph/model.ts'
import { verifyModel } from '../graph/verify.ts'
import { inferTypes } from '../runtime/isolated/infer-types.ts'

export interface Stage<C> {
  /** kebab-case, verb-object. */
  readonly name: string
  /** A promise is awaited; its value is not used. */
  run(context: C): unknown
}

/** What a stage works on: at least a model, which is edited in place. */
export interface StageContext {
  readonly model: Model
}

export interface StageDone {
  readonly pipeline: string
  readonly stage: string
  readonly model: Model
  readonly milliseconds: number
}

export type StageWatcher = (done: StageDone) => Promise<void> | void

const watcher = new AsyncLocalStorage<StageWatcher>()

/** Does the work; `watch` is told of every stage in it, before the next one begins. */
export const watchStages = <T>(watch: StageWatcher, work: () => Promise<T>): Promise<T> => watcher.run(watch, work)

/** Takes the context through the stages in order. On an error the model may be half-edited and must be dropped. */
export async function runStages<C extends StageContext>(
  pipeline: string,
  stages: readonly Stage<C>[],
  context: C,
  { signal, onProgress }: LongRun = {},
): Promise<void> {
  for (const [i, stage] of stages.entries()) {
    stopIfAborted(signal, `interrupted before ${pipeline}/${stage.name}`)
    await runStage(pipeline, stage, context)
    onProgress?.(i + 1, stages.length)
  }
}

/** One stage, verified, timed and shown to the watcher. Errors: those of the stage with its name; a bug error where it broke the graph. */
export async function runStage<C extends StageContext>(pipeline: string, stage: Stage<C>, context: C): Promise<void> {
  const { model } = context
  const nodes = model.graph.nodeCount
  const label = `${pipeline}/${stage.name}`
  const start = performance.now()
  try {
    await stage.run(context)
    const milliseconds = performance.now() - start
    verifyStage(label, model)
    await watcher.getStore()?.({ pipeline, stage: stage.name, model, milliseconds })
    await debug(label, model, `${milliseconds.toFixed(1)} ms, ${nodes} -> ${model.graph.nodeCount} nodes`)
  } catch (error) {
    // the innermost stage is the one to look at
    if (error instanceof Error && !('stage' in error && error.stage)) Object.assign(error, { stage: label })
    throw error
  }
}

function verifyStage(label: string, model: Model): void {
  try {
    verifyModel(model)
  } catch (cause) {
    throw brokenBy(label, cause)
  }
}

/** The bug error for a stage or pass whose result is not what it must be. */
export function brokenBy(label: string, cause: unknown): MncError {
  const why = cause instanceof Error ? cause.message : String(cause)
  return bugError(`${label} left a broken graph: ${why}`, {
    cause,
    node: cause instanceof MncError ? cause.node : undefined,
    next: 'run again with --dump-stages DIR and report the stages',
  })
}

async function debug(label: string, model: Model, line: string): Promise<void> {
  const level = Number(process.env.MNC_DEBUG ?? 0)
  if (level >= 1) process.stderr.write(`[${label}] ${line}\n`)
  if (level >= 2) await inferTypes(cloneModel(model))
}

/** A watcher that writes the model as text after each stage to `DIR/NN-pipeline-stage.txt`, larger tensors as a hash. */
export function dumpStages(dir: string): StageWatcher {
  let count = 0
  return async ({ pipeline, stage, model, milliseconds }) => {
    const file = `${String(count++).padStart(3, '0')}-${pipeline}-${stage}.txt`
    const head = `// ${pipeline}/${stage}: ${milliseconds.toFixed(1)} ms, ${model.graph.nodeCount} nodes\n`
    await mkdir(dir, { recursive: true })
    await writeFileAtomic(join(dir, file), head + printModel(model, { tensors: 'summary' }))
  }
}
