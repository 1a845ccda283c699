/** Which outputs of a training step have a loss, which one (objectives.ts), and their weighted sum. */
import { bugError, modelError, usageError } from '../../base/errors.ts'
import type { Builder } from '../../graph/builder.ts'
import type { Node, Value } from '../../graph/graph.ts'
import { isStatic } from '../../graph/types.ts'
import { isChannelNorm } from '../../ops/facts.ts'
import { requireGradients } from '../../passes/autodiff.ts'
import { removeDead } from '../../passes/eliminate-dead.ts'
import { attachTeacher } from '../../passes/merge-teacher.ts'
import { inferTypes } from '../../runtime/isolated/infer-types.ts'
import { builtInLosses } from '../losses.ts'
import { teacherEntropy } from './losses.ts'
import {
  classesIn,
  type Decided,
  decide,
  type Exercise,
  emitObjectives,
  isDivergence,
  labelled,
  partnersOf,
  sourcesOf,
  subjectsOf,
} from './objectives.ts'
import type { StepBuilding } from './step-building.ts'
import type { StepOptions } from './step-options.ts'
import { partFor } from './teacher-part.ts'

/** Loss, losses and teacher entropy, as far as the step has them. */
export const resultsOf = ({ loss, losses, entropy }: StepBuilding): Value[] =>
  [loss, losses, entropy].filter((v) => v !== null)

export function findSubjects(step: StepBuilding): void {
  const { graph, options, parameters } = step
  step.subjects = subjectsOf(graph, options, options.teacher !== undefined)
  requireGradients(graph, parameters, ownValues(step))
}

const ownValues = ({ subjects }: StepBuilding): Value[] =>
  subjects.flatMap((s) => (s.target ? [s.head.value, s.output] : [s.head.value]))

export function joinTeacher(step: StepBuilding): void {
  const { model, graph, options, subjects } = step
  const { teacher } = options
  if (!teacher) return
  const before = new Set<Node>(graph.nodes())
  const copies = attachTeacher(model, teacher.model, teacher.adapter)
  step.partners = partnersOf(subjects, sourcesOf(teacher.model.graph.outputs, copies))
  const norms = [...graph.nodes()].filter((n) => !before.has(n) && isChannelNorm(n))
  if (teacher.batchStatistics) step.teacherNorms = norms
}

/** Makes the values that losses read the graph's only outputs. */
export function keepCompared(step: StepBuilding): void {
  const { graph, partners } = step
  step.compared = [...new Set([...ownValues(step), ...Array.from(partners.values(), (p) => p.head.value)])]
  for (const v of [...graph.outputs]) graph.removeOutput(v)
  for (const v of step.compared) graph.addOutput(v)
  removeDead(graph)
}

export async function decideObjectives(step: StepBuilding): Promise<void> {
  const { graph, options } = step
  step.objectives = decide(exercisesOf(step), options)
  step.logits = labelled(step.objectives).student
  for (const v of [...graph.outputs]) graph.removeOutput(v)
  step.variances = await variancesOf(step)
}

/** The values of each output now, its own and its partner's. A model error where a shape is unknown. */
function exercisesOf({ graph, compared, subjects, partners }: StepBuilding): Exercise[] {
  // what has taken their place since
  const now = new Map(graph.outputs.map((v, i) => [compared[i]!, v]))
  return subjects.map((subject) => {
    const source = partners.get(subject) ?? null
    const [student, teacher] = [now.get(subject.head.value)!, source && now.get(source.head.value)!]
    const output = subject.target && now.get(subject.output)!
    if (isStatic(student.type?.dims ?? null)) return { subject, student, source, teacher, output }
    throw modelError('dynamic-shape', `the shape of output '${subject.name}' is unknown`, {
      next: 'give the model fixed input dims',
    })
  })
}

/** The teacher's variance, for outputs whose loss divides by it. */
async function variancesOf({ model, input, objectives, options }: StepBuilding): Promise<Map<string, number>> {
  const { teacher } = options
  const relative = objectives.filter((l) => l.loss === 'nmse' && l.teacher)
  if (relative.length === 0) return new Map()
  if (!teacher?.variances) throw bugError('nmse divides by variances, but the step was given none')
  const values = [...new Set(relative.map((l) => l.teacher!))]
  const found = await teacher.variances(partFor(model, values), input.name)
  return new Map(relative.map((l) => [l.subject.name, found[values.indexOf(l.teacher!)]!]))
}

/** The loss is typed, as differentiation needs it. */
export async function emitLoss(step: StepBuilding): Promise<void> {
  const { model, graph, objectives, options, variances } = step
  const b = graph.append()
  const shares = emitObjectives(b, objectives, options, variances)
  step.loss = total(b, shares.flat())
  step.losses = shares.length > 1 ? vectorOf(b, shares) : null
  step.entropy = entropyOf(b, objectives, options)
  const results = resultsOf(step)
  for (const v of results) graph.addOutput(v)
  await inferTypes(model)
  for (const v of results) graph.removeOutput(v)
  const dims = step.loss.type?.dims ?? []
  const own = objectives.map((l) => l.loss).filter((l) => !builtInLosses.some((known) => known === l))
  if (dims.length > 0 && own.length > 0)
    throw usageError(
      `loss '${own.join("' or '")}' gives [${dims.join(', ')}], and a loss is one number`,
      'end it with ReduceMean and keepdims: 0',
    )
}

function vectorOf(b: Builder, shares: readonly (readonly Value[])[]): Value {
  const each = shares.map((terms) => b.op('Reshape', [total(b, terms), b.ints([1])]))
  return b.op('Concat', each, { axis: 0 })
}

/** The mean over the outputs that are distributions; null where none is. */
function entropyOf(b: Builder, objectives: readonly Decided[], { temperature }: StepOptions): Value | null {
  const entropies = objectives
    .filter((l) => isDivergence(l.loss))
    .map((l) => teacherEntropy(b, l.teacher!, classesIn(l), temperature))
  if (entropies.length < 2) return entropies[0] ?? null
  return b.op('Mul', [b.op('Sum', entropies), b.scalar(1 / entropies.length)])
}

const total = (b: Builder, terms: readonly Value[]): Value => (terms.length === 1 ? terms[0]! : b.op('Sum', terms))
