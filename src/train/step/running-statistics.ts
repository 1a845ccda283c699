/**
 * Running means and variances in one vector, and their update by those of the batch:
 *   running = momentum * running + (1 - momentum) * batch
 *
 * Where gradients are accumulated, the runs of a step all read the statistics that it began with, so that none waits for
 * another, and each adds to `moved`, how far they have come from there; the update then adds that:
 *   moved = momentum * moved + (1 - momentum) * (batch - running);   after all runs   running = running + moved
 * which is the same as one update after each run.
 */
import type { Graph, Value } from '../../graph/graph.ts'
import { centreConvolutions, type NormLayer, normNodes, useBatchStatistics } from './batch-statistics.ts'
import { FlatLayout } from './flat-layout.ts'
import type { StepBuilding } from './step-building.ts'
import { nameOf, nameOutput } from './step-names.ts'

export function findNorms(step: StepBuilding): void {
  if (step.options.batchStatistics) step.trainedNorms = normNodes(step.graph)
}

/** Makes the student's and, if requested, the teacher's BatchNormalization use the statistics of the batch. */
export function normaliseByBatch(step: StepBuilding): void {
  const { graph, trainedNorms, teacherNorms, tiles, options } = step
  const { ranks } = options
  step.norms = useBatchStatistics(trainedNorms, tiles, ranks)
  step.statistics = runningStatistics(step.norms)
  const { size } = step.statistics
  step.running = size > 0 ? graph.addInput('statistics', { elem: 'float32', dims: [size] }) : null
  if (step.running) step.centred = centreConvolutions(step.norms, step.statistics, step.running, tiles)
  useBatchStatistics(teacherNorms, tiles, ranks)
  graph.sort()
}

/** The layout of all running means and variances. */
export function runningStatistics(norms: readonly NormLayer[]): FlatLayout {
  const seen = new Map<string, readonly number[]>()
  for (const n of norms) for (const v of [n.runningMean, n.runningVariance]) seen.set(nameOf(v), v.constant!.dims)
  return new FlatLayout([...seen].map(([name, dims]) => ({ name, dims })))
}

/**
 * One vector of all batch statistics, in the layout's order: means, and unbiased variances, M / (M - 1), as PyTorch keeps
 * them.
 */
export function batchStatistics(graph: Graph, norms: readonly NormLayer[], layout: FlatLayout): Value {
  const now = new Map<string, { value: Value; factor: number }>()
  for (const n of norms) {
    const { count } = n
    now.set(nameOf(n.runningMean), { value: n.batchMean, factor: 1 })
    now.set(nameOf(n.runningVariance), { value: n.batchVariance, factor: count / Math.max(1, count - 1) })
  }
  const b = graph.append()
  const factors = layout.perEntry((name) => now.get(name)!.factor)
  const parts = layout.entries.map((e) => now.get(e.name)!.value)
  const joined = layout.concat(b, parts, 'population_statistics')
  return b.op('Mul', [joined, b.initializer('unbiased', factors)], {}, { name: 'batch_statistics' })
}

/** The means in `centred` were measured after subtracting the running ones. */
export function emitStatistics(step: StepBuilding): void {
  const { graph, norms, statistics, running, centred, update } = step
  if (!running) return
  const momentum = new Map(norms.flatMap((n) => [n.runningMean, n.runningVariance].map((v) => [nameOf(v), n.momentum])))
  const batch = batchStatistics(graph, norms, statistics)
  const b = graph.append()
  const factor = (name: string, of: (name: string) => number) => b.initializer(name, statistics.perEntry(of))
  const taken = b.op('Mul', [batch, factor('statistics_take', (name) => 1 - momentum.get(name)!)])
  if (!update) {
    const keep = factor('statistics_keep', (name) => (centred.has(name) ? 1 : momentum.get(name)!))
    nameOutput(graph, b.op('Add', [b.op('Mul', [running, keep]), taken]), 'next_statistics')
    return
  }
  const vector = { elem: 'float32', dims: [statistics.size] } as const
  const leave = factor('statistics_leave', (name) => (centred.has(name) ? 0 : 1 - momentum.get(name)!))
  const move = b.op('Sub', [taken, b.op('Mul', [running, leave])])
  const keep = statistics.perEntry((name) => momentum.get(name)!)
  step.statisticsKeep = keep.view('float32')
  const before = b.op('Mul', [graph.addInput('moved', vector), b.initializer('statistics_keep', keep)])
  nameOutput(graph, b.op('Add', [before, move]), 'next_moved')
  const own = update.graph
  const ends = own.append().op('Add', [own.addInput('statistics', vector), own.addInput('moved', vector)])
  nameOutput(own, ends, 'next_statistics')
}
