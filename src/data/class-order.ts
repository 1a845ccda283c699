/**
 * Which class each output of a model stands for. A trained model records the names in its metadata; `--classes FILE`
 * supplies them for a model that does not. A data set with named classes is brought into that order, and refused where it has
 * a class that the model lacks; of a set whose classes have no names (npz, IDX) labels are outputs as they are.
 */
import { modelError, usageError } from '../base/errors.ts'
import { readTextSync } from '../base/files.ts'
import { distinct, namesIn, readClassOrder, writeClassOrder } from '../graph/class-names.ts'
import type { Model } from '../graph/model.ts'
import type { SampleSet } from './array-set.ts'

/**
 * The names in a file: one per line, a JSON array, or a JSON object from numbers to names or from names to numbers (what
 * ImageFolder's class_to_idx is).
 */
export function loadClassOrder(file: string): readonly string[] {
  const text = readTextSync(file)
  const isJson = /^\s*[[{]/.test(text)
  const names = isJson
    ? namesIn(text)
    : distinct(
        text
          .split('\n')
          .map((line) => line.trim())
          .filter(Boolean),
      )
  if (names) return names
  throw usageError(
    `--classes ${file}: it does not contain a list of distinct names`,
    'write one per line in the order of the outputs, or as JSON: ["cat", "dog"] or {"cat": 0, "dog": 1}',
  )
}

/** The set with labels in the order of `names`. `whose`: who says so, for messages. */
export function inClassOrder<S extends SampleSet>(dataset: S, names: readonly string[], whose: string): S {
  const own = dataset.classNames
  if (!own) {
    if (dataset.classes > names.length)
      throw usageError(
        `${dataset.name} has labels up to ${dataset.classes - 1}, in one of its splits, but ${whose} names ${names.length} classes, 0 to ${names.length - 1}`,
      )
    return dataset.relabelled(names, (label) => label) as S
  }
  if (own.length === names.length && own.every((name, i) => name === names[i])) return dataset
  const places = new Map(names.map((name, i) => [name, i]))
  const foreign = own.filter((name) => !places.has(name))
  if (foreign.length > 0)
    throw usageError(
      `${dataset.name} has classes that ${whose} does not name: ${shown(foreign)}; it names ${shown(names)}`,
      "give the data's names in the order of the model's outputs with --classes FILE",
    )
  const to = own.map((name) => places.get(name)!)
  return dataset.relabelled(names, (label) => to[label]!) as S
}

/** The set as the model's own metadata numbers its classes, if it does. */
export function inModelOrder<S extends SampleSet>(model: Model, dataset: S): S {
  const names = readClassOrder(model)
  return names ? inClassOrder(dataset, names, 'the model') : dataset
}

/** Refuses two models that would have to read the same labels and number the classes differently. */
export function checkSameOrder(model: Model, other: Model, what: string): void {
  const [a, b] = [readClassOrder(model), readClassOrder(other)]
  if (!a || !b || (a.length === b.length && a.every((name, i) => name === b[i]))) return
  throw modelError('class-order', `${what} numbers its classes differently: ${shown(b)} instead of ${shown(a)}`)
}

/** For a model and its reference, which read the same labels: one's names go for both; different ones are refused. */
export function agreeOnOrder(reference: Model, model: Model): void {
  checkSameOrder(reference, model, 'the model')
  const names = readClassOrder(model)
  if (names && !readClassOrder(reference)) writeClassOrder(reference, names)
}

const SHOWN = 6
const shown = (names: readonly string[]): string =>
  names
    .slice(0, SHOWN)
    .map((n) => `'${n}'`)
    .join(', ') + (names.length > SHOWN ? ', ...' : '')
