/**
 * A command that several processes run together under mpirun: one voice and one end. Rank 0 speaks for what is the same
 * everywhere; what happens to one rank only is said by that rank, with its number, and ends the job. Ranks that leave the word to
 * another exit with 0: mpirun ends a job at the first exit code that is not, perhaps before the other has spoken.
 */
import { MncError, reportedElsewhere } from '../base/errors.ts'
import type { Group } from '../ranks/group.ts'
import type { CommandIO } from './io.ts'

/** Errors that the training loop throws on all ranks at the same point. */
const EVERYWHERE: ReadonlySet<string> = new Set(['interrupted', 'diverged', 'ranks-differ'])

export interface Ranks {
  readonly group: Group
  /** Of all processes, for the run's first line. */
  readonly description: string
  /** Threads for each rank where none were asked for: the machine's cores, shared by the ranks on it. */
  readonly threads: number
}

/**
 * Runs `body` on all ranks, or with null in a process that is alone. `body` calls `ready` once, when all that can fail on
 * one rank alone before training has succeeded; `io` is silent on ranks other than 0.
 */
export async function together(
  io: CommandIO,
  body: (ranks: Ranks | null, ready: () => void, io: CommandIO) => Promise<void>,
): Promise<void> {
  const { launched } = await import('../ranks/launched.ts')
  const launch = launched()
  if (!launch) return body(null, () => {}, io)
  const { MpiGroup } = await import('../ranks/mpi.ts')
  const os = await import('node:os')
  const group = await MpiGroup.open(launch)
  const { rank, size, version } = group
  const cores = Math.floor(os.cpus().length / (launch.local ?? 1))
  const ranks = {
    ...{ group, description: `${size} ranks of ${version}` },
    threads: Math.max(1, Math.min(os.availableParallelism(), cores)),
  }
  let isReady = false
  const ready = (): void => {
    isReady = true
    if (statuses(group, null).some(({ failed }) => failed)) throw reportedElsewhere()
  }
  try {
    await body(ranks, ready, rank === 0 ? io : io.silent())
    group.close()
  } catch (error) {
    if (isReady) {
      const own = inTraining(error)
      if (own === null) return
      throw own
    }
    const all = statuses(group, error)
    group.close()
    const own = all[rank]!
    const first = all.findIndex(({ failed, hash }) => failed && hash === own.hash)
    if (first !== rank) return
    throw all.every(({ hash }) => hash === own.hash) ? error : ofRank(rank, error)
  }

  /** What this rank has to say; null for nothing. */
  function inTraining(error: unknown): unknown {
    if (!(error instanceof MncError)) return error
    const isElsewhere = error.code === reportedElsewhere().code
    const isShared = EVERYWHERE.has(error.code) || isElsewhere
    // left open, the end of this process ends the others
    if (!isShared) return ofRank(rank, error)
    group.close()
    return rank === 0 && !isElsewhere ? error : null
  }
}

/** Of each rank: whether it failed, and with which message. */
function statuses(group: Group, error: unknown): { failed: boolean; hash: number }[] {
  const text = error === null ? '' : error instanceof MncError ? error.describe() : String(error)
  let hash = 0
  for (let i = 0; i < text.length; i++) hash = (Math.imul(hash, 31) + text.charCodeAt(i)) | 0
  return group
    .gather([error === null ? 0 : 1, hash])
    .map(([failed, theirs]) => ({ failed: failed === 1, hash: theirs! }))
}

function ofRank(rank: number, error: unknown): unknown {
  if (!(error instanceof MncError)) return error
  const { code, blame, file, node, next, cause } = error
  return new MncError(`rank ${rank}: ${error.message}`, { code, blame, file, node, next, cause })
}
