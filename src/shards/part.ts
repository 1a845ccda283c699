/**
 * The file of a share: what it is a share of, and the results of its items. Shares are joined only where everything that results
 * depend on is the same in all of them, and none is missing; what is made of the joined results is then what a single run
 * would have made, to the byte.
 */
import { existsSync } from 'node:fs'
import { usageError } from '../base/errors.ts'
import { readText, writeFileAtomic } from '../base/files.ts'
import { fromWords, toWords } from './numbers.ts'
import { rangeOf, type Shard, shardName } from './shard.ts'

/** Of the form of these files. */
const FORM = 1

export interface Part {
  readonly command: string
  /** What results depend on, by name: hashes of the model and the data, options, the version of mnc. */
  readonly facts: Facts
  readonly shard: Shard
  /** Of the whole job. */
  readonly items: number
  /** What it takes besides results to finish the job. */
  readonly shared: unknown
  /** Of the items of the share, in order; fewer while it is under way. */
  readonly results: readonly unknown[]
}

export type Facts = Readonly<Record<string, unknown>>

export interface Whole extends Pick<Part, 'command' | 'shared'> {
  /** Of all items, in order. */
  readonly results: readonly unknown[]
}

export async function writePart(path: string, part: Part): Promise<void> {
  await writeFileAtomic(path, `${JSON.stringify({ mncPart: FORM, ...part }, toWords)}\n`)
}

/** A usage error for anything else than a share. */
export async function readPart(path: string): Promise<Part> {
  const text = await readText(path)
  let json: unknown
  try {
    json = JSON.parse(text, fromWords)
  } catch {
    json = null
  }
  if (isPart(json)) return json
  throw usageError(`'${path}' is no file of a share of a job`, 'give the files that --shard wrote')
}

const isPart = (x: unknown): x is Part =>
  typeof x === 'object' &&
  x !== null &&
  'mncPart' in x &&
  x.mncPart === FORM &&
  ['command', 'facts', 'shard', 'items', 'shared', 'results'].every((key) => key in x)

/** What is already there of the same share of the same job. */
export async function doneOf(path: string, part: Omit<Part, 'results'>): Promise<readonly unknown[]> {
  if (!existsSync(path)) return []
  const old = await readPart(path)
  const isSame = old.command === part.command && shardName(old.shard) === shardName(part.shard)
  return isSame && differences(old.facts, part.facts).length === 0 ? old.results : []
}

/** The shares, in any order, as one. Usage errors name the files. */
export async function joinParts(paths: readonly string[]): Promise<Whole> {
  const parts: { readonly path: string; readonly part: Part }[] = []
  for (const path of paths) parts.push({ path, part: await readPart(path) })
  parts.sort((a, b) => a.part.shard.index - b.part.shard.index)
  const first = parts[0]
  if (!first) throw usageError('no share is given', 'give the files that --shard wrote')
  const { command, items, shared, shard } = first.part
  for (const { path, part } of parts) requireSame(first, { path, part })
  const twice = parts.find(({ part }, i) => parts[i + 1]?.part.shard.index === part.shard.index)
  if (twice) {
    const files = parts.filter(({ part }) => part.shard.index === twice.part.shard.index).map(({ path }) => path)
    throw usageError(`share ${shardName(twice.part.shard)} is given more than once: ${files.join(', ')}`)
  }
  const given = new Set(parts.map(({ part }) => part.shard.index))
  const missing = Array.from({ length: shard.of }, (_, i) => i + 1).filter((i) => !given.has(i))
  if (missing.length > 0)
    throw usageError(
      `${missing.length} of ${shard.of} shares are missing: ${missing.slice(0, MOST_NAMED).join(', ')}${missing.length > MOST_NAMED ? ', ...' : ''}`,
      `run them with --shard I/${shard.of}, or give their files`,
    )
  for (const { path, part } of parts) requireWhole(path, part)
  return { command, shared, results: parts.flatMap(({ part }) => part.results), ...{ items } }
}

const MOST_NAMED = 12

interface Read {
  readonly path: string
  readonly part: Part
}

/** A usage error where two shares are not of the same job. */
function requireSame(a: Read, b: Read): void {
  const both = `${a.path} and ${b.path}`
  if (a.part.command !== b.part.command)
    throw usageError(`${both} are shares of different commands: ${a.part.command} and ${b.part.command}`)
  const [different] = differences(a.part.facts, b.part.facts)
  if (different) throw usageError(`${both} are shares of different jobs: ${different}`)
  if (a.part.shard.of !== b.part.shard.of || a.part.items !== b.part.items)
    throw usageError(
      `${both} are shares ${shardName(a.part.shard)} and ${shardName(b.part.shard)}: not of one division`,
    )
}

function requireWhole(path: string, { shard, items, results }: Part): void {
  const { from, to } = rangeOf(shard, items)
  if (results.length === to - from) return
  throw usageError(
    `${path}: share ${shardName(shard)} has done ${results.length} of its ${to - from} items`,
    'the same command goes on with the rest',
  )
}

/** Names of facts that differ, with both values where they are short. */
function differences(a: Facts, b: Facts, prefix = ''): string[] {
  const names = [...new Set([...Object.keys(a), ...Object.keys(b)])]
  return names.flatMap((name) => {
    const [x, y] = [a[name], b[name]]
    if (isRecord(x) && isRecord(y)) return differences(x, y, `${name} `)
    const [own, other] = [x, y].map((v) => JSON.stringify(v, toWords) ?? 'nothing')
    if (own === other) return []
    return [`${prefix}${name} is ${own}, and ${other}`]
  })
}

const isRecord = (x: unknown): x is Facts => typeof x === 'object' && x !== null && !Array.isArray(x)
