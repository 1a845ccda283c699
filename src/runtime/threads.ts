/** How many threads the engine works with. */
import { availableParallelism, cpus } from 'node:os'

/**
 * `asked`, or one per core that this process may use. The engine's own choice (0) counts the machine's cores, also where a
 * container, a job of a cluster or taskset leaves this process fewer: its threads would then wait for each other.
 */
export function engineThreads(asked: number | undefined): number {
  if (asked) return asked
  const own = availableParallelism()
  return own < cpus().length ? own : 0
}
