/**
 * The loss of each output of a model. Labels train one output, the first of [N, C] scores; arrays of the data train the
 * outputs whose names they have (data-targets.ts). A teacher supervises all float outputs, and labels and arrays have the share
 * that --alpha leaves them; partners have the same name or, of those left, the same position. Which loss:
 *
 *   --loss NAME=...        that one
 *   scores                 kl or reverse-kl (the default), over the axis of the classes: a softmax follows inside the
 *                          student or the teacher, or it is the one float output of the model, [N, C >= 2], and no
 *                          operator bounds it
 *   anything else          nmse: width 1, boxes, heat maps, masks, embeddings
 *   --loss mse|nmse|l1     that one, for all
 *
 * The loss of a step is the sum of the outputs' losses times their weights. Scores that --loss names as such, and whose
 * axis nothing tells, have it last, as tokens do, or at 1, where images have it (rank 4 and more).
 */

import { type MncError, modelError, usageError } from '../../base/errors.ts'
import type { Builder } from '../../graph/builder.ts'
import type { Graph, Value } from '../../graph/graph.ts'
import { formatType, isStatic } from '../../graph/types.ts'
import { mapNamed } from '../../layers/select.ts'
import { axisFromFront } from '../../ops/facts.ts'
import { type DataGoal, emitGoal, goalOf, single, type TargetForm } from './data-targets.ts'
import { type Classes, classesOf, crossEntropy, distance, divergence, type LossName, needsClasses } from './losses.ts'
import { classAxis, type Head, headOf, isFloatOutput, mayBeScores, pairByName, scoresOutput } from './outputs.ts'
import { nameOf } from './step-names.ts'

/** The options of a run that choose losses (train-options.ts). */
export interface LossOptions {
  readonly loss?: LossName | Readonly<Record<string, LossName>> | undefined
  readonly lossWeight?: Readonly<Record<string, number>> | undefined
  readonly lossAxis?: Readonly<Record<string, number>> | undefined
  /** Weight of the teacher where its losses are mixed with cross entropy: alpha * loss + (1 - alpha) * ce. */
  readonly alpha: number
  readonly temperature: number
}

/** An output and what is asked for it; before types are known. */
export interface Subject {
  readonly name: string
  readonly head: Head
  readonly asked: LossName | undefined
  readonly weight: number
  readonly axis: number | undefined
  /** What the data say about it. */
  readonly target: TargetForm | null
  /** The output itself, which `target` is of: the head may be what its softmax reads. */
  readonly output: Value
  /** The only float output of the model. */
  readonly alone: boolean
}

/** An output of the teacher. */
export interface Source {
  readonly name: string
  readonly head: Head
}

/** What is decided for an output. */
export interface Objective {
  readonly output: string
  /** With the teacher, if there is one. */
  readonly loss: LossName
  /** Of the classes; null for losses that compare elements. */
  readonly axis: number | null
  readonly weight: number
}

/** Whether a run with these options has a use for labels, and for a teacher. */
export function needsOf({ loss, alpha }: LossOptions, hasTeacher: boolean): { labels: boolean; teacher: boolean } {
  const named = typeof loss === 'object' ? Object.values(loss) : []
  const plain = typeof loss === 'object' ? undefined : (loss ?? (hasTeacher ? 'reverse-kl' : 'ce'))
  const against = (l: LossName | undefined): boolean => l !== undefined && l !== 'ce'
  const teacher = against(plain) || named.some(against) || (typeof loss === 'object' && hasTeacher)
  return { labels: plain === 'ce' || named.includes('ce') || alpha < 1, teacher }
}

/** The outputs that are taught. A usage error for names that match none; a model error where no output is a float. */
export function subjectsOf(graph: Graph, o: LossOptions & Supervision, hasTeacher: boolean): Subject[] {
  const { targets = new Map<string, TargetForm>(), labels = true } = o
  const floats = graph.outputs.filter(isFloatOutput).map((output) => ({ output, names: [nameOf(output)] }))
  if (floats.length === 0) throw noFloatOutput(graph)
  const asked = mapNamed(typeof o.loss === 'object' ? o.loss : {}, floats, 'float output')
  const weights = mapNamed(o.lossWeight ?? {}, floats, 'float output')
  const axes = mapNamed(o.lossAxis ?? {}, floats, 'float output')
  for (const [{ names }, axis] of axes)
    if (!Number.isInteger(axis))
      throw usageError(
        `--loss-axis ${names[0]}=${axis} is not an axis`,
        'give an integer; negative ones count from the end',
      )
  const weighted = floats.filter((f) => weights.get(f) !== 0)
  if (weighted.length === 0)
    throw usageError('--loss-weight leaves all outputs out', 'give at least one output a weight above 0')
  const named = typeof o.loss === 'object'
  const isTarget = ({ names }: { names: readonly string[] }): boolean => targets.has(names[0]!)
  const chosen = hasTeacher ? weighted : weighted.filter((f) => isTarget(f) || asked.has(f))
  // labels are for an output that is not chosen otherwise
  const scores = scoresOutput(weighted.filter((f) => !chosen.includes(f)).map((f) => f.output))
  const isAsked = labels && !named && (o.loss ?? 'ce') === 'ce'
  const byLabels = chosen.length === 0 || (isAsked && scores !== undefined && mayBeScores(scores))
  const plain = typeof o.loss === 'string' ? o.loss : undefined
  return weighted
    .filter((f) => chosen.includes(f) || (byLabels && f.output === scores))
    .map((f) => ({
      name: f.names[0]!,
      ...{ head: headOf(f.output), output: f.output, target: targets.get(f.names[0]!) ?? null },
      asked: asked.get(f) ?? (hasTeacher ? undefined : isTarget(f) ? plain : 'ce'),
      weight: weights.get(f) ?? 1,
      axis: axes.get(f),
      alone: floats.length === 1,
    }))
    .map((s) => (hasTeacher || s.target || s.asked === 'ce' ? s : refuseAlone(s, targets)))
}

/** What there is to learn from besides a teacher. */
export interface Supervision {
  /** Arrays of the data by output. */
  readonly targets?: ReadonlyMap<string, TargetForm> | undefined
  /** Whether samples have labels; true by default. */
  readonly labels?: boolean | undefined
}

/** Nothing says what the output should give. */
function refuseAlone({ name, asked }: Subject, targets: ReadonlyMap<string, TargetForm>): never {
  const known = [...targets.keys()]
  throw usageError(
    `--loss ${name}=${asked} compares '${name}' with a teacher, or with an array of the data of that name, and there is neither`,
    `give --teacher FILE, or --map ${name}=ARRAY${known.length > 0 ? `; there are arrays for ${known.join(', ')}` : ''}`,
  )
}

/** The teacher's outputs in the order and by the names of its file. `copies`: the same, inside the step. */
export function sourcesOf(outputs: readonly Value[], copies: readonly Value[]): Source[] {
  return outputs.flatMap((v, i) => (isFloatOutput(v) ? [{ name: v.name, head: headOf(copies[i]!) }] : []))
}

/** The partner of each output that the teacher teaches. A model error where there is none. */
export function partnersOf(subjects: readonly Subject[], sources: readonly Source[]): Map<Subject, Source> {
  if (sources.length === 0) return new Map()
  const taught = subjects.filter((s) => s.asked !== 'ce')
  const pairs = pairByName(taught, sources)
  const out = new Map<Subject, Source>()
  for (const [subject, source] of pairs) {
    if (!source)
      throw modelError(
        'teacher-outputs',
        `the teacher has no float output that corresponds to the student's '${subject.name}'`,
        {
          blame: 'user',
          next: `leave it out with --loss-weight ${subject.name}=0, or use another teacher`,
        },
      )
    out.set(subject, source)
  }
  return out
}

function noFloatOutput(graph: Graph): MncError {
  const types = graph.outputs.map((v) => `'${v.name}' ${formatType(v.type)}`).join(', ')
  return modelError('no-float-output', `there is no float output that a loss could compare: ${types}`, {
    next: 'make an inner float value an output of the model',
  })
}

/** A subject and its values once the step is typed. */
export interface Exercise {
  readonly subject: Subject
  readonly student: Value
  /** null: labels teach it alone. */
  readonly source: Source | null
  readonly teacher: Value | null
  /** The output itself, where data say what it should be. */
  readonly output: Value | null
}

/** An exercise with its loss. */
export type Decided = Exercise & {
  readonly loss: LossName
  readonly axis: number | null
  /** null: data say nothing of it, or are not asked. */
  readonly goal: DataGoal | null
}

/** Decides the losses; dims of all students are known. */
export function decide(exercises: readonly Exercise[], o: LossOptions): Decided[] {
  const plain = typeof o.loss === 'string' ? o.loss : undefined
  const found = exercises.map((e) => ({ ...e, axis: scoresAxis(e) }))
  const taught = found.filter((e) => e.teacher)
  const divergent = plain === 'kl' || plain === 'reverse-kl'
  if (divergent && taught.length > 1 && taught.every((e) => e.axis === null))
    throw usageError(
      `--loss ${plain} compares distributions, but no output is known to be one`,
      `name it: --loss ${taught[0]!.subject.name}=${plain}`,
    )
  return found.map((e, i) => {
    const { asked, target, name } = e.subject
    const goal =
      target && (!e.teacher || o.alpha < 1)
        ? goalOf(
            { output: name, form: target, dims: e.student.dims, axis: e.axis, asked: e.teacher ? undefined : asked },
            `target_${i}`,
          )
        : null
    if (goal && !e.teacher) return { ...e, loss: goal.loss, axis: goal.axis, goal }
    const alone = divergent && taught.length === 1
    const loss = asked ?? (plain && !divergent ? plain : alone || e.axis !== null ? (plain ?? 'reverse-kl') : 'nmse')
    if (e.teacher) requireSameShape(e)
    return { ...e, goal, loss, axis: needsClasses(loss) && loss !== 'ce' ? (e.axis ?? usualAxis(e, loss)) : null }
  })
}

/** The axis of an output's classes, if something tells that it is scores. */
function scoresAxis({ subject, student, source, teacher }: Exercise): number | null {
  const { dims } = student
  const { axis, head } = subject
  if (axis !== undefined) {
    const at = axisFromFront(axis, dims.length)
    if (dims[at] === undefined || dims[at] < 2)
      throw usageError(
        `--loss-axis ${subject.name}=${axis}: the output is ${shapeOf(dims)}`,
        'name the axis of the classes',
      )
    return at
  }
  const behind = classAxis(student, head) ?? (source && teacher ? classAxis(teacher, source.head) : null)
  if (behind !== null) return behind
  return subject.alone && !head.bounded && dims.length === 2 && dims[1]! >= 2 ? 1 : null
}

/** Where classes are, in an output that is called scores. */
function usualAxis({ subject, student: { dims } }: Exercise, loss: LossName): number {
  const at = dims.length > 3 ? 1 : dims.length - 1
  if (at > 0 && dims[at]! >= 2) return at
  throw modelError('no-classes', `'${subject.name}' is ${shapeOf(dims)}: there are no classes for ${loss} to compare`, {
    blame: 'user',
    next: 'use --loss nmse, or name the axis with --loss-axis',
  })
}

const shapeOf = (dims: readonly unknown[]): string => `[${dims.join(', ')}]`

/** The teacher's shape may not be known; the engine tells then. */
function requireSameShape({ subject, student, teacher }: Exercise): void {
  const dims = teacher!.type?.dims ?? null
  if (!isStatic(dims) || dims.join() === student.dims.join()) return
  const what = `the student returns ${shapeOf(student.dims)} but the teacher ${shapeOf(dims)}`
  throw modelError('teacher-shape', subject.alone ? what : `'${subject.name}': ${what}`, {
    next: 'use a teacher with outputs of the same shape',
  })
}

/** The output that labels are for, and whose scores give the accuracy: the first that has the form. */
export function labelled(objectives: readonly Decided[]): Decided {
  const scores = ({ student: { dims } }: Decided): boolean => dims.length === 2 && dims[1]! >= 2
  return objectives.find((l) => l.loss === 'ce' && !l.goal) ?? objectives.find(scores) ?? objectives[0]!
}

/** Each output's contribution to the loss of a step, in their order. `variances`: of what nmse compares, by output. */
export function emitObjectives(
  b: Builder,
  objectives: readonly Decided[],
  o: LossOptions & Supervision & { readonly batch: number },
  variances: ReadonlyMap<string, number>,
): Value[][] {
  const own = labelled(objectives)
  return objectives.map((l) => {
    const { name, weight } = l.subject
    const terms: Value[] = []
    const add = (v: Value, share: number): void => {
      terms.push(share === 1 ? v : b.op('Mul', [v, b.scalar(share)]))
    }
    const goal = (share: number): void =>
      add(emitGoal(b, l.goal!, l.goal!.axis === null ? l.output! : l.student), share)
    if (l.goal && !l.teacher) goal(weight)
    else if (l.loss === 'ce') add(labelLoss(b, l, o.batch), weight)
    else {
      const [s, t] = [single(b, l.student), single(b, l.teacher!)]
      const value = isDivergence(l.loss)
        ? divergence(b, l.loss, s, t, { ...classesIn(l), temperature: o.temperature })
        : distance(b, l.loss, s, t, variances.get(name) ?? 1)
      add(value, o.alpha * weight)
      if (l.goal) goal((1 - o.alpha) * weight)
      else if (o.alpha < 1 && l === own && (o.labels ?? true)) add(labelLoss(b, l, o.batch), (1 - o.alpha) * weight)
    }
    return terms
  })
}

export const isDivergence = (loss: LossName): loss is 'kl' | 'reverse-kl' => loss === 'kl' || loss === 'reverse-kl'

export const classesIn = ({ student, axis }: Decided): Classes => classesOf(student.dims, axis!)

function labelLoss(b: Builder, { subject, student }: Decided, batch: number): Value {
  const { dims } = student
  const classes = dims[1]
  if (dims.length !== 2 || classes === undefined)
    throw modelError('not-a-classifier', `a label loss needs a [batch, classes] output, which '${subject.name}' is not`)
  const known = b.graph.inputs.find((v) => v.name === 'targets')
  if (known && known.dims[1] !== classes)
    throw modelError(
      'class-count',
      `'${subject.name}' has ${classes} classes, but another output has ${known.dims[1]}`,
      {
        next: 'leave one out with --loss-weight NAME=0',
      },
    )
  const targets = known ?? b.graph.addInput('targets', { elem: 'float32', dims: [batch, classes] })
  return crossEntropy(b, single(b, student), targets, classesOf(dims, 1))
}
