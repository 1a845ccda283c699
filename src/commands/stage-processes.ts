/**
 * `mnc run --jobs N`: stages that do not wait for each other, side by side, each by a process of its own, which is the same
 * command with this stage alone. What the processes made is then up to date for the run that called them: it says what a
 * run by itself says, and ends at the first gate that fails.
 */
import { MncError } from '../base/errors.ts'
import { neededBy } from '../recipes/needs.ts'
import type { Stage } from '../recipes/recipe.ts'
import type { CommandIO } from './io.ts'
import { runMnc } from './processes.ts'

/** Throws the first error that is not a failed gate, when all that had begun have ended. */
export async function stagesInProcesses(stages: readonly Stage[], jobs: number, io: CommandIO): Promise<void> {
  const own = new Set(stages.map((s) => s.name))
  const done = new Set<string>()
  const waiting = new Set(stages)
  const running = new Map<string, Promise<void>>()
  let failed: unknown = null
  const isReady = (stage: Stage): boolean => neededBy(stage).every((name) => done.has(name) || !own.has(name))
  const begin = ({ name }: Stage): Promise<void> => {
    io.log(`${name}: in a process of its own`)
    return runMnc(io.words, ['--jobs', '1', '--from', name, '--until', name, '--quiet', '--json'])
      .then(() => void done.add(name))
      .catch((error: unknown) => {
        failed ??= error
      })
      .finally(() => void running.delete(name))
  }
  for (;;) {
    const next = failed ? undefined : [...waiting].find(isReady)
    if (next && running.size < jobs) {
      waiting.delete(next)
      running.set(next.name, begin(next))
    } else if (running.size > 0) await Promise.race(running.values())
    else break
  }
  if (failed && !(failed instanceof MncError && failed.blame === 'gate')) throw failed
}
