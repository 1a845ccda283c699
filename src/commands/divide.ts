/**
 * Commands whose work divides into independent items: all of them here, one share of them (--shard I/N, written to a file), or
 * all by several processes (--jobs N), which are the same command with a share each. Whichever it was, one function makes
 * the answer out of the results of all items, so that it is the same to the byte; `mnc merge` calls it too.
 */
import { createHash } from 'node:crypto'
import { usageError } from '../base/errors.ts'
import type { Facts, Part, Whole } from '../shards/part.ts'
import type { Range, Shard } from '../shards/shard.ts'
import type { CommandIO } from './io.ts'

/** How a command's answer is made of the results of items, and told. */
export interface Division<S = unknown, R = unknown, A = unknown> {
  readonly command: string
  /** Whether the answer is a file, too: `out`, if the user said so. */
  readonly writesFile: boolean
  join(shared: S, results: readonly R[]): Promise<A>
  finish(shared: S, answer: A, out: string | undefined, io: CommandIO): Promise<void>
}

export interface Job<S = unknown, R = unknown, A = unknown> {
  /** Everything that results depend on; the version of mnc is added. */
  facts(): Facts
  /** What the answer takes besides results. */
  readonly shared: S
  readonly items: number
  /** All items, here. */
  whole(): Promise<A>
  /** Results of the items of `range`, of which the first are `done`; `keep` is told all results so far. */
  share(range: Range, done: readonly R[], keep: (results: readonly R[]) => Promise<void>): Promise<readonly R[]>
}

/** The answer of all shares; they are this version's, so that they are what it wrote. */
export async function finishShares<S, R, A>(
  division: Division<S, R, A>,
  { shared, results }: Pick<Whole, 'shared' | 'results'>,
  out: string | undefined,
  io: CommandIO,
): Promise<void> {
  const own = shared as S
  await division.finish(own, await division.join(own, results as readonly R[]), out, io)
}

interface Chosen {
  readonly shard: string | undefined
  readonly part: string | undefined
  readonly jobs: number
  readonly threads: number
  readonly output?: string | undefined
}

/** `model`: its path, after which files of shares are called. */
export async function divided<S, R, A>(
  division: Division<S, R, A>,
  model: string,
  chosen: Chosen,
  io: CommandIO,
  prepare: () => Promise<Job<S, R, A>>,
): Promise<void> {
  const { shard, part, jobs, output } = chosen
  const nameOf = ({ index, of }: Shard, own = ''): string =>
    `${model.replace(/\.\w+$/, '')}.${division.command}${own}.${index}-of-${of}.json`
  if (part !== undefined && shard === undefined)
    throw usageError('--part names the file of a share', 'add --shard I/N, or leave it out')
  if (shard !== undefined && jobs > 1) throw usageError('--shard and --jobs divide the same work', 'give one of them')
  if (shard !== undefined) {
    const { parseShard } = await import('../shards/shard.ts')
    const share = parseShard(shard)
    await writeShare(division.command, share, part ?? nameOf(share), await prepare(), io)
  } else if (jobs > 1) {
    if (model === '-') throw usageError('--jobs reads the model in several processes', 'give a file')
    const { inProcesses } = await import('./processes.ts')
    // the command's own, so that another command's shares stay; the same command again goes on with them
    const own = `.${createHash('sha256').update(JSON.stringify(io.words)).digest('hex').slice(0, 8)}`
    const jobsNameOf = (shard: Shard): string => nameOf(shard, own)
    const whole = await inProcesses(division.command, { jobs, nameOf: jobsNameOf, threads: chosen.threads }, io)
    await finishShares(division, whole, output, io)
  } else {
    const job = await prepare()
    await division.finish(job.shared, await job.whole(), output, io)
  }
}

/** A share is written at the end, and now and then before: who begins it again goes on. */
const KEEP_MS = 10_000

async function writeShare<S, R, A>(
  command: string,
  shard: Shard,
  path: string,
  job: Job<S, R, A>,
  io: CommandIO,
): Promise<void> {
  const { doneOf, writePart } = await import('../shards/part.ts')
  const { rangeOf } = await import('../shards/shard.ts')
  const { packageVersion } = await import('../base/package-files.ts')
  const { shared, items } = job
  const part: Omit<Part, 'results'> = {
    ...{ command, facts: { version: packageVersion(), ...job.facts() }, shard, items, shared },
  }
  const done = (await doneOf(path, part)) as readonly R[]
  if (done.length > 0) io.log(`${done.length} of the share's items are already in ${path}`)
  let kept = performance.now()
  const results = await job.share(rangeOf(shard, items), done, async (soFar) => {
    if (performance.now() - kept < KEEP_MS) return
    await writePart(path, { ...part, results: soFar })
    kept = performance.now()
  })
  await writePart(path, { ...part, results })
  io.wrote(path, { shard: [shard.index, shard.of], items: results.length })
}
