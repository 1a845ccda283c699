/**
 * Builds the training step: one ONNX graph that holds the student's forward pass in training form, the teacher, the loss,
 * the backward pass and the optimiser's update. Any executor that knows the standard operators runs it.
 *
 *   inputs   <student input>  [batch, ...]     targets [batch, classes] (one-hot, where a label loss is used)
 *            target_0, ... (arrays of the data, of the outputs that they train: data-targets.ts)
 *            weights [P]  statistics [S]  host [H]  <optimiser slots> [P]   lr, ... (scalars)
 *            loss_scale (scalar, in mixed precision: mixed-precision.ts)
 *   outputs  loss  losses (of each output, where several have one)  logits
 *            teacher_entropy (where a loss compares distributions)  gradient_norm  next_weights [P]  next_statistics [S]  next_<slot> [P]  gradient [P]
 *
 * Where gradients are accumulated over K micro-batches, the step takes `accumulated` [P] in place of the optimiser's
 * slots and gives next_accumulated = accumulated + gradient / K, and in place of next_statistics how far they have moved
 * (running-statistics.ts); a second graph does the update after the K-th. Between the two, other processes may add what
 * their micro-batches gave (shared-sum.ts).
 *
 * P, S, H: flat layouts (flat-layout.ts) of the parameters, the running statistics, and the constants that the host
 * changes between steps (masks, quantiser scales).
 */
import type { Model } from '../../graph/model.ts'
import { isStatic } from '../../graph/types.ts'
import { useRunningStatistics } from '../../layers/training-mode.ts'
import { toWorkingOpset } from '../../ops/raise-opset.ts'
import { applyPass } from '../../pass-manager/manager.ts'
import { runStages, type Stage } from '../../pass-manager/stages.ts'
import { removeDead } from '../../passes/eliminate-dead.ts'
import { lowerFakeQuant } from '../../passes/lower-fake-quant.ts'
import { widenFloats } from '../../passes/widen-floats.ts'
import { joinGates } from './join-gates.ts'
import { slotsOf } from './optimizers.ts'
import { withOrigins } from './origins.ts'
import { emitStatistics, findNorms, normaliseByBatch } from './running-statistics.ts'
import { StepBuilding } from './step-building.ts'
import { emitBackward, joinGradients, narrow } from './step-gradient.ts'
import { fixInputs } from './step-inputs.ts'
import { freeReservedNames, nameOutput } from './step-names.ts'
import { decideObjectives, emitLoss, findSubjects, joinTeacher, keepCompared } from './step-objectives.ts'
import type { HostSelector, StepGraph, StepOptions } from './step-options.ts'
import { chooseConstants, chooseParameters, flatten, passMasks } from './step-parameters.ts'
import { settleSizes, tile } from './step-tiles.ts'
import { emitUpdates } from './step-update.ts'

const prepared: readonly Stage<StepBuilding>[] = [
  { name: 'free-names', run: ({ graph }) => freeReservedNames(graph) },
  { name: 'fix-defaults', run: ({ graph }) => graph.fixDefaults() },
  { name: 'fix-inputs', run: fixInputs },
  { name: 'widen-floats', run: ({ model }) => widenFloats(model) },
  { name: 'upgrade-opset', run: ({ model }) => toWorkingOpset(model) },
  { name: 'use-running-statistics', run: ({ model }) => useRunningStatistics(model) },
  { name: 'join-gates', run: ({ graph }) => joinGates(graph) },
]

const parameters: readonly Stage<StepBuilding>[] = [
  { name: 'pass-masks', run: passMasks },
  { name: 'choose-constants', run: chooseConstants },
  {
    name: 'lower-quantisers',
    run: ({ model, options: { learnScales } }) => applyPass(model, lowerFakeQuant, { learnScales }),
  },
  { name: 'choose-parameters', run: chooseParameters },
]

const network: readonly Stage<StepBuilding>[] = [
  { name: 'find-subjects', run: findSubjects },
  { name: 'find-norms', run: findNorms },
  { name: 'join-teacher', run: joinTeacher },
  { name: 'keep-compared', run: keepCompared },
  { name: 'flatten-parameters', run: flatten },
  { name: 'settle-sizes', run: settleSizes },
  { name: 'tile-batch', run: tile },
  { name: 'normalise-by-batch', run: normaliseByBatch },
]

const backward: readonly Stage<StepBuilding>[] = [
  { name: 'decide-objectives', run: decideObjectives },
  { name: 'emit-loss', run: emitLoss },
  { name: 'emit-backward', run: emitBackward },
  { name: 'narrow-floats', run: narrow },
  { name: 'join-gradients', run: joinGradients },
]

const results: readonly Stage<StepBuilding>[] = [
  { name: 'name-results', run: nameResults },
  { name: 'emit-update', run: emitUpdates },
  { name: 'emit-statistics', run: emitStatistics },
  { name: 'give-gradient', run: ({ graph, gradient }) => graph.addOutput(gradient) },
  { name: 'remove-dead', run: ({ graph }) => removeDead(graph) },
]

export async function buildStep(student: Model, options: StepOptions, isHost: HostSelector): Promise<StepGraph> {
  const step = new StepBuilding(student, options, isHost)
  const stages = [...prepared, ...parameters, ...network, ...backward, ...results]
  await runStages('step', options.origins ? stages.map(withOrigins) : stages, step)
  return resultOf(step)
}

function nameResults({ graph, loss, losses, entropy, logits }: StepBuilding): void {
  nameOutput(graph, loss, 'loss')
  if (losses) nameOutput(graph, losses, 'losses')
  if (entropy) nameOutput(graph, entropy, 'teacher_entropy')
  nameOutput(graph, logits, 'logits')
}

function resultOf(step: StepBuilding): StepGraph {
  const { model, graph, update, input, weights, statistics, statisticsKeep, host } = step
  const { options, lossScale, objectives, logits } = step
  return {
    ...{ model, update, inputName: input.name, inputDims: input.dims },
    ...{
      weights: weights.layout,
      statistics,
      statisticsKeep,
      host: host.layout,
      slots: slotsOf(options.optimizer.optimizer),
    },
    lossScaled: lossScale !== null,
    objectives: objectives.map(({ subject, loss, axis }) => ({
      output: subject.name,
      loss,
      axis,
      weight: subject.weight,
    })),
    goals: new Map(objectives.flatMap(({ subject, goal }) => (goal ? [[subject.name, goal] as const] : []))),
    outputDims: isStatic(logits.type?.dims ?? null) ? logits.dims : null,
    classes: graph.inputs.find((v) => v.name === 'targets')?.dims[1] ?? null,
  }
}
