/**
 * WebDataset shards as a data set. Members are found when it is opened, and read where they are when they are needed:
 *
 *   png jpg jpeg webp   the picture of a sample; the set is one of pictures then
 *   cls                 its class, a whole number as text
 *   NAME.npy npy        an array called NAME, or npy
 *   json                numbers, or lists of them, by field; `label` or `cls` is the class where there is no cls
 *
 * Each sample has what the first one has. Everything else is counted in a note.
 */
import { type MncError, usageError } from '../../base/errors.ts'
import { readPart } from '../../base/files.ts'
import { ArraySet, badLabel, type Column, LABELS, type SampleSet } from '../array-set.ts'
import { MOST_CLASSES, type Split } from '../dataset.ts'
import type { PicturePlace } from '../decode.ts'
import type { ReadOptions } from '../read-options.ts'
import { memoryRows } from '../rows.ts'
import { type FoundLabels, testOnlyNote } from '../test-only-classes.ts'
import { isObject, JsonColumns } from './json-columns.ts'
import { NpyMembers } from './npy-members.ts'
import { pictureSet } from './picture-set.ts'
import { type ShardSample, samplesOf, shardsOf } from './shards.ts'
import type { Archive } from './tar.ts'

const PICTURES = ['png', 'jpg', 'jpeg', 'webp']
/** Fields of json that are a sample's class. */
const LABEL_FIELDS = ['label', 'cls', 'class', LABELS]

/** A usage error that names shard and sample for what is damaged, missing or not alike. */
export async function openTar(place: string, split: Split, how: ReadOptions): Promise<SampleSet> {
  const { archives, others, notes } = await shardsOf(place, split)
  const first = samplesOf(archives).next().value!
  const isPictures = [...first.members.keys()].some((kind) => PICTURES.includes(kind)) && how.map === undefined
  const found = isPictures ? picturesOf(archives) : arraysOf(archives)
  const labels = found.labels && Int32Array.from(found.labels.labels)
  const largest = (of: ClassList | null): number => of?.labels.reduce((a, b) => Math.max(a, b), -1) ?? -1
  const second = others === archives || labels === null ? null : labelsOf(others)
  const classes = 1 + Math.max(largest(found.labels), largest(second))
  const only = found.labels ? testOnlyNote(split, found.labels, second) : []
  const own = { name: `tar:${place}#${split}`, split, notes: [...notes, ...found.left.notes(), ...only] }
  if ('columns' in found) {
    const numbers = labels && new Uint8Array(labels.buffer)
    const column: Column | null = numbers && {
      ...{ name: LABELS, elem: 'int32', dims: [], rows: memoryRows(numbers, 4), file: place },
    }
    const columns = column ? [...found.columns, column] : found.columns
    if (columns.length === 0) throw usageError(`${first.shard}: '${first.key}' has neither a picture nor arrays`)
    return ArraySet.of({ ...own, columns, map: how.map, classes })
  }
  const init = {
    ...{ ...own, places: found.places, labels: labels ?? new Int32Array(found.places.length) },
    ...{ isLabelled: labels !== null, classes },
    training: split === 'train' || others === archives ? null : () => trainingOf(place, how),
  }
  return pictureSet(init, how)
}

async function trainingOf(place: string, how: ReadOptions) {
  const set = await openTar(place, 'train', how)
  if (set instanceof ArraySet) throw usageError(`tar: '${place}' has pictures in one split only`)
  return set
}

/** What is not read, by its kind. */
class Left {
  readonly #counts = new Map<string, number>()

  add(kind: string): void {
    this.#counts.set(kind, (this.#counts.get(kind) ?? 0) + 1)
  }

  notes(): string[] {
    const counted = Array.from(this.#counts, ([kind, n]) => `${n} .${kind}`).sort()
    return counted.length > 0 ? [`members that are not read: ${counted.join(', ')}`] : []
  }
}

interface FoundPictures {
  readonly places: readonly PicturePlace[]
  readonly labels: ClassList | null
  readonly left: Left
}

function picturesOf(archives: readonly Archive[]): FoundPictures {
  const places: PicturePlace[] = []
  const labels = new Labels()
  const left = new Left()
  for (const sample of samplesOf(archives)) {
    const { shard, members } = sample
    const [picture, more] = [...members.keys()].filter((kind) => PICTURES.includes(kind))
    if (picture === undefined) throw lacking(sample, 'a picture')
    if (more !== undefined) throw faultOf(sample)('has two pictures')
    places.push({ path: shard, part: members.get(picture)! })
    const used = labels.add(sample)
    for (const kind of members.keys()) if (kind !== picture && kind !== used) left.add(kind)
  }
  return { places, labels: labels.all, left }
}

interface FoundArrays {
  readonly columns: readonly Column[]
  readonly labels: ClassList | null
  readonly left: Left
}

function arraysOf(archives: readonly Archive[]): FoundArrays {
  const labels = new Labels()
  const left = new Left()
  const arrays = new NpyMembers()
  const fields = new JsonColumns()
  for (const sample of samplesOf(archives)) {
    const { members } = sample
    const used = labels.add(sample)
    arrays.add(sample, lacking)
    if (members.has('json')) {
      const json = objectIn(sample)
      fields.add(json, used === 'json' ? labelField(json) : undefined, sample.shard, faultOf(sample))
    }
    for (const kind of members.keys()) if (kind !== used && kind !== 'json' && !/(^|\.)npy$/.test(kind)) left.add(kind)
  }
  return { columns: [...arrays.columns(), ...fields.columns()], labels: labels.all, left }
}

/** Of another split, whose labels count for the number of classes. */
function labelsOf(archives: readonly Archive[]): ClassList | null {
  const labels = new Labels()
  for (const sample of samplesOf(archives)) labels.add(sample)
  return labels.all
}

interface ClassList extends FoundLabels {
  readonly labels: readonly number[]
}

/** Classes of samples, all of which have one or none. */
class Labels {
  readonly #numbers: number[] = []
  /** Shards, and the first row of each. */
  readonly #shards: { readonly shard: string; readonly first: number }[] = []
  #samples = 0

  /** The kind of member that the class was in. */
  add(sample: ShardSample): string | null {
    const { members, shard, key } = sample
    const used = members.has('cls') ? 'cls' : members.has('json') ? 'json' : null
    const said = used === 'cls' ? textIn(sample, 'cls').trim() : used === 'json' ? labelIn(objectIn(sample)) : undefined
    if (this.#samples > 0 && (said === undefined) !== (this.#numbers.length === 0)) {
      if (said === undefined) throw lacking(sample, 'a class')
      throw faultOf(sample)('has a class, which the first sample has not')
    }
    this.#samples++
    if (said === undefined) return null
    const label = said === '' ? Number.NaN : Number(said)
    if (!(Number.isInteger(label) && label >= 0 && label < MOST_CLASSES))
      throw badLabel(shard, `'${key}.${used}'`, said)
    if (this.#shards.at(-1)?.shard !== shard) this.#shards.push({ shard, first: this.#numbers.length })
    this.#numbers.push(label)
    return used
  }

  get all(): ClassList | null {
    const [labels, shards] = [this.#numbers, this.#shards]
    if (labels.length === 0) return null
    return { labels, fileOf: (row) => shards.findLast(({ first }) => first <= row)!.shard }
  }
}

/** The number itself, or that of the field. */
function labelIn(json: unknown): unknown {
  if (typeof json === 'number') return json
  const field = labelField(json)
  return field === undefined ? undefined : Reflect.get(json as object, field)
}

const labelField = (json: unknown): string | undefined =>
  isObject(json) ? LABEL_FIELDS.find((field) => typeof Reflect.get(json, field) === 'number') : undefined

const textIn = ({ shard, members }: ShardSample, kind: string): string => {
  const { offset, size, descriptor } = members.get(kind)!
  return readPart(shard, offset, size, descriptor).toString('utf8')
}

function objectIn(sample: ShardSample): unknown {
  try {
    return JSON.parse(textIn(sample, 'json'))
  } catch (cause) {
    if (!(cause instanceof SyntaxError)) throw cause
    throw faultOf(sample)(`has a .json that is none: ${cause.message}`)
  }
}

const faultOf =
  ({ shard, key }: ShardSample) =>
  (what: string): MncError =>
    usageError(`${shard}: '${key}' ${what}`)

const lacking = (sample: ShardSample, what: string): MncError =>
  usageError(`${sample.shard}: '${sample.key}' has not got ${what}, which the first sample has`)
