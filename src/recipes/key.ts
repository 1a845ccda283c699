/**
 * What a recipe says about a stage, as two hashes: of what its graph is made from and of what is measured. The first covers
 * the tool's version, the hashes of the graphs it reads, of the images, of the augmentation policy, and all options with
 * their defaults, so that it also tells whether a half-trained graph is this one's; left out is what does not change the
 * result beyond rounding (threads that prepare batches, the device). Whatever else a result depends on is a file that was
 * read on the way, and those are recorded (reads.ts): a stage is up to date while its keys and all of these are the same.
 */
import { packageVersion } from '../base/package-files.ts'
import { loadPolicy } from '../data/policy-file.ts'
import { RANDOM, type TrainingData } from '../data/random-options.ts'
import type { Graphs, Stage } from './recipe.ts'
import { sha256, type WorkFolder } from './work-folder.ts'

/** Raised where the meaning of a stage changes without its options changing. */
const FORMAT = 1

export interface StageKeys {
  readonly key: string
  readonly measureKey: string
  readonly settings: Readonly<Record<string, unknown>>
}

/** Path of a graph that a stage reads. */
export const pathOf = (graph: Graphs, folder: WorkFolder): string =>
  graph.kind === 'file' ? graph.path : folder.files(graph.name).model

/** Whether a stage's graph depends on training images. */
export const usesTrainingData = (s: Stage): boolean =>
  s.train !== null || s.bnUpdate !== null || s.passes.some((p) => p.calibration)

export const usesTestData = (s: Stage): boolean => s.eval !== null || s.checks.length > 0

export async function keysOf(stage: Stage, folder: WorkFolder, training: TrainingData | null): Promise<StageKeys> {
  const graph = async (g: Graphs | null) => g && { ...g, sha256: await folder.hashOf(pathOf(g, folder)) }
  const { source, teacher, seed, pixels, sizes, passes, train, bnUpdate } = stage
  const settings = {
    source: source.kind === 'build' ? { build: source.reference, spec: source.spec } : await graph(source),
    teacher: await graph(teacher),
    data: stage.data,
    classes: stage.reading.classes,
    seed,
    pixels,
    sizes,
    passes: passes.map(({ def, options, calibration }) => ({ pass: def.name, options, calibration })),
    train: train && { ...train, workers: undefined, device: undefined, augment: policyOf(train.augment) },
    bnUpdate: bnUpdate && { ...bnUpdate, workers: undefined, device: undefined, augment: policyOf(bnUpdate.augment) },
    export: stage.export,
  }
  const made = {
    format: FORMAT,
    version: packageVersion(),
    ...settings,
    images: training === RANDOM ? RANDOM : (training?.contentHash() ?? null),
  }
  const measured = {
    ...{ data: stage.data, eval: stage.eval && { ...stage.eval, device: undefined }, score: stage.score },
    checks: stage.checks,
  }
  return { key: sha256(JSON.stringify(made)), measureKey: sha256(JSON.stringify(measured)), settings }
}

/** A policy file counts by its content. */
const policyOf = (augment: string): unknown => ({ name: augment, policy: loadPolicy(augment) })
