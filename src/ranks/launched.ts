/** What the environment says about the processes that a launcher started with this one. */
import type { MpiFamily } from './mpi-library.ts'

export interface Launch {
  readonly family: MpiFamily
  /** Processes in all, and on this machine where that is known. */
  readonly size: number
  readonly local: number | null
}

/** Variables of a launcher: how many processes there are, and how many on this machine. */
const LAUNCHERS: readonly { readonly family: MpiFamily; readonly size: string; readonly local: string }[] = [
  { family: 'open-mpi', size: 'OMPI_COMM_WORLD_SIZE', local: 'OMPI_COMM_WORLD_LOCAL_SIZE' },
  { family: 'mpich', size: 'PMI_SIZE', local: 'MPI_LOCALNRANKS' },
]

/**
 * null where this process is alone. `srun --mpi=pmix` names itself by PMIX_RANK and SLURM_STEP_NUM_TASKS, for either
 * library: Open MPI, unless MNC_MPI names another.
 */
export function launched(env: Readonly<Record<string, string | undefined>> = process.env): Launch | null {
  for (const { family, size, local } of LAUNCHERS) {
    const count = numberIn(env[size])
    if (count !== null) return count > 1 ? { family, size: count, local: numberIn(env[local]) } : null
  }
  const tasks = env.PMIX_RANK === undefined ? null : numberIn(env.SLURM_STEP_NUM_TASKS)
  if (tasks === null || tasks === 1) return null
  return { family: 'open-mpi', size: tasks, local: numberIn(env.SLURM_STEP_TASKS_PER_NODE) }
}

const numberIn = (text: string | undefined): number | null => {
  const number = Number.parseInt(text ?? '', 10)
  return number > 0 ? number : null
}
