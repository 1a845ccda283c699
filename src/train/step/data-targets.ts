/**
 * What the data say about an output: an array of numbers that it should give, or of the classes of which it gives scores. Which
 * of the two follows from the shapes:
 *
 *   classes  whole numbers in the shape of the output without the axis of its classes: [N] for [N, C], [N, L] for [N, L, C],
 *            [N, H, W] for [N, C, H, W]. Loss ce, over positions whose class is not negative
 *   numbers  anything in the shape of the output; dims of 1 may be missing. Loss mse, l1 or the user's own; ce where they are the
 *            probabilities of classes
 */
import { type MncError, usageError } from '../../base/errors.ts'
import type { Builder } from '../../graph/builder.ts'
import type { Value } from '../../graph/graph.ts'
import { type ElementType, elementTypes } from '../../graph/types.ts'
import { axisFromFront } from '../../ops/facts.ts'
import { classesOf, crossEntropy, distance, indexedCrossEntropy, type LossName, needsClasses } from './losses.ts'

/** An array of the data that belongs to an output. */
export interface TargetForm {
  readonly elem: ElementType
  /** Batch included. */
  readonly dims: readonly number[]
  /** What it is called, and what holds it, for messages. */
  readonly name: string
  readonly file: string
}

/** How an output is compared with it. */
export interface DataGoal {
  /** The step's input that is fed the array. */
  readonly input: string
  readonly form: TargetForm
  readonly loss: LossName
  /** Of the classes; null where numbers are compared. */
  readonly axis: number | null
  /** It holds classes, not numbers; how many there are. */
  readonly classes: number | null
}

export interface GoalQuestion {
  readonly output: string
  readonly form: TargetForm
  /** Of the output. */
  readonly dims: readonly number[]
  /** The axis of its classes, if something tells. */
  readonly axis: number | null
  readonly asked: LossName | undefined
}

/** Decides the loss; a usage error that names the file where shapes or the loss do not fit. */
export function goalOf({ output, form, dims, axis, asked }: GoalQuestion, input: string): DataGoal {
  const at = classAxisOf(form, dims, axis)
  const loss = asked ?? (at !== null ? 'ce' : 'mse')
  const fault = (what: string, next: string): MncError => usageError(`${form.file}: '${form.name}' ${what}`, next)
  if (loss === 'kl' || loss === 'reverse-kl' || loss === 'nmse')
    throw fault(
      `is an array of the data, and ${loss} compares '${output}' with a teacher`,
      'use mse, l1, ce, or a loss of your own',
    )
  if (loss === 'ce' && at !== null) return { input, form, loss, axis: at, classes: dims[at]! }
  if (!sameButOnes(form.dims, dims))
    throw fault(
      `has the shape [samples${form.dims
        .slice(1)
        .map((d) => `, ${d}`)
        .join('')}], but output '${output}' is [${dims.join(', ')}]`,
      `name another array with --map ${output}=NAME, or leave the output out with --loss-weight ${output}=0`,
    )
  if (!needsClasses(loss)) return { input, form, loss, axis: null, classes: null }
  const scores = axis ?? usualAxis(dims)
  if (scores === null || dims[scores]! < 2)
    throw fault(`cannot be compared by ce: output '${output}' [${dims.join(', ')}] has no classes`, 'use mse or l1')
  return { input, form, loss, axis: scores, classes: null }
}

const isInteger = (elem: ElementType): boolean => /^u?int/.test(elem)
const withoutOnes = (dims: readonly number[]): string => dims.filter((d) => d !== 1).join()
const sameButOnes = (a: readonly number[], b: readonly number[]): boolean => withoutOnes(a) === withoutOnes(b)

/** Where classes are, in an output of which nothing tells: last, or at 1 where images have them. */
const usualAxis = (dims: readonly number[]): number | null =>
  dims.length > 3 ? 1 : dims.length > 1 ? dims.length - 1 : null

/** The axis that whole numbers leave out; null where they do not. */
function classAxisOf({ elem, dims }: TargetForm, output: readonly number[], known: number | null): number | null {
  if (!isInteger(elem) || sameButOnes(dims, output)) return null
  const likely = [known, usualAxis(output), ...output.keys()].filter((a) => a !== null)
  const fits = (a: number): boolean =>
    a > 0 &&
    output[a]! >= 2 &&
    sameButOnes(
      dims,
      output.filter((_, i) => i !== axisFromFront(a, output.length)),
    )
  return likely.find(fits) ?? null
}

/** What the step's input takes. */
export const feedType = ({ classes }: DataGoal): 'int64' | 'float32' => (classes === null ? 'float32' : 'int64')

/** The loss of `value`, the output, or for ce its scores. */
export function emitGoal(b: Builder, { input, form, loss, axis, classes }: DataGoal, value: Value): Value {
  const { dims } = value
  const fed = b.graph.addInput(input, { elem: classes === null ? 'float32' : 'int64', dims: [...form.dims] })
  const shape = classes === null ? dims : dims.filter((_, i) => i !== axis)
  const wanted = form.dims.join() === shape.join() ? fed : b.op('Reshape', [fed, b.ints([...shape])])
  if (axis === null) return distance(b, loss, single(b, value), wanted, 1)
  const scores = classesOf(dims, axis)
  return classes === null
    ? crossEntropy(b, single(b, value), wanted, scores)
    : indexedCrossEntropy(b, single(b, value), wanted, scores)
}

export const single = (b: Builder, v: Value): Value =>
  v.type?.elem === 'float64' ? b.op('Cast', [v], { to: elementTypes.float32.code }) : v
