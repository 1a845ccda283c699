/**
 * Checkpoints: the model as it is, a valid ONNX file like any other, with the optimiser's vectors as initializers
 * that no node reads (`mnc.state/<slot>`) and the position of the run in `metadata_props` (`mnc.training`). Batches
 * depend on the seed and the step alone, so the step *is* the position of data and random numbers.
 */

import { existsSync } from 'node:fs'
import { usageError } from '../../base/errors.ts'
import { fingerprint, readModel, writeModel } from '../../codec/codec.ts'
import { cloneModel } from '../../graph/clone.ts'
import { marks, stateName, vectorOf } from '../../graph/marks.ts'
import type { Model } from '../../graph/model.ts'
import { Tensor } from '../../graph/tensor.ts'
import type { LossScaleState } from '../step/loss-scale.ts'

export interface Position {
  /** Steps done. */
  readonly step: number
  /** Says which run this is: options, seed, data. A resumed run must be the same. */
  readonly run: string
  /** Accuracy of the best epoch, or what is measured in its place. */
  readonly bestTop1: number
  readonly bestEpoch: number
  /** Fingerprint of the best epoch's model, which is next to the checkpoint; missing where there is none yet. */
  readonly bestModel?: string
  /** Losses of the present epoch's steps so far; missing in checkpoints of version 0.1.0. */
  readonly lossSum?: number
  readonly lossSteps?: number
  /** The step was the last of an epoch whose validation was interrupted. */
  readonly validationPending?: boolean
  /** In mixed precision. */
  readonly lossScale?: LossScaleState
}

/** Writes the state after `position.step` steps; `model` must hold the present weights. */
export async function saveCheckpoint(
  path: string,
  model: Model,
  vectors: Iterable<readonly [name: string, values: Float32Array]>,
  position: Position,
): Promise<void> {
  const copy = cloneModel(model)
  for (const [name, values] of vectors)
    copy.graph.addInitializer(stateName(name), Tensor.float32([values.length], values.slice()))
  marks.training.set(copy, position)
  await writeModel(copy, path)
}

export interface Checkpoint {
  readonly model: Model
  readonly position: Position
  readonly vectors: ReadonlyMap<string, Float32Array>
}

/** Reads a checkpoint; null where there is no file. A usage error for a file that is not one, or belongs to another run. */
export async function loadCheckpoint(path: string, run: string): Promise<Checkpoint | null> {
  if (!existsSync(path)) return null
  const model = await readModel(path)
  const position = positionOf(model, path)
  if (position.run !== run)
    throw usageError(
      `'${path}' is the checkpoint of another run: ${difference(position.run, run)}`,
      'remove it, or train without --resume',
    )
  const vectors = new Map<string, Float32Array>()
  for (const v of [...model.graph.initializers()]) {
    const vector = vectorOf(v)
    if (vector === null) continue
    vectors.set(vector, v.constant!.toFloat32().slice())
    model.graph.removeInitializer(v)
  }
  marks.training.drop(model)
  return { model, position, vectors }
}

/** The best epoch's model is next to the checkpoint, for runs that are resumed after it. */
export const bestPathOf = ({ checkpoint }: { readonly checkpoint?: string | undefined }): string | undefined =>
  checkpoint?.replace(/(\.checkpoint)?(\.\w+)?$/, '.best$2')

/** Writes the best epoch's model, with the run that it belongs to in its metadata. */
export async function saveBest(path: string, model: Model, run: string, epoch: number): Promise<void> {
  const copy = cloneModel(model)
  marks.best.set(copy, { run, epoch })
  await writeModel(copy, path)
}

/**
 * The best epoch's model that a checkpoint refers to; null if it refers to none. A usage error where the file is missing
 * or is another one: the last epoch's weights are not a substitute. A run that was killed may have written a better model
 * after its last checkpoint, and will reach it again.
 */
export async function loadBest(path: string, position: Position): Promise<Model | null> {
  if (position.bestEpoch < 0 || position.bestModel === undefined) return null
  const next = 'put it back, or train without --resume'
  const epoch = `the model of epoch ${position.bestEpoch}, the best so far`
  if (!existsSync(path)) throw usageError(`'${path}', ${epoch}, is missing`, next)
  const best = await readModel(path)
  const mark = markOf(best)
  marks.best.drop(best)
  const isLater = mark?.run === position.run && mark.epoch > position.bestEpoch
  if (!isLater && fingerprint(best) !== position.bestModel) throw usageError(`'${path}' is not ${epoch}`, next)
  return best
}

function markOf(model: Model): { readonly run: string; readonly epoch: number } | null {
  const mark = marks.best.get(model)
  if (typeof mark !== 'object' || mark === null || !('run' in mark) || !('epoch' in mark)) return null
  return typeof mark.run === 'string' && typeof mark.epoch === 'number' ? { run: mark.run, epoch: mark.epoch } : null
}

function positionOf(model: Model, path: string): Position {
  const position = marks.training.get(model)
  if (isPosition(position)) return position
  throw usageError(
    `'${path}' is a model but not a checkpoint of a training run`,
    'remove it, or train without --resume',
  )
}

function isPosition(x: unknown): x is Position {
  if (typeof x !== 'object' || x === null) return false
  const { step, run, bestTop1, bestEpoch } = x as Record<string, unknown>
  return Number.isInteger(step) && typeof run === 'string' && Number.isFinite(bestTop1) && Number.isInteger(bestEpoch)
}

/** Entries that are hashes, in words. */
const hashed: Readonly<Record<string, string>> = {
  content: 'the images or their labels are different',
  inputs: 'the files of the model and its teacher are different',
  model: 'the model has different weights',
}

/** The first entry in which two run descriptions differ. */
function difference(theirs: string, ours: string): string {
  const [a, b] = [JSON.parse(theirs), JSON.parse(ours)] as Record<string, unknown>[]
  for (const key of new Set([...Object.keys(a!), ...Object.keys(b!)])) {
    const [x, y] = [JSON.stringify(a![key]), JSON.stringify(b![key])]
    if (x === y) continue
    return hashed[key] ?? `${key} was ${x ?? 'not given'}, now ${y ?? 'not given'}`
  }
  return 'its options differ'
}
