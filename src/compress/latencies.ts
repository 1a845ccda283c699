/** How long the files of a run take, side by side with the float one: measured once, and kept with the points. */
import { MncError } from '../base/errors.ts'
import { readModel } from '../codec/codec.ts'
import { type Candidate, measureLatency } from '../latency/measure.ts'
import { ortExecutor } from '../runtime/ort/ort.ts'
import type { Point } from './point.ts'
import type { Run } from './run.ts'

/** Seconds for each file. */
const SECONDS = 0.5
const FILE = 'latency.json'

/** Milliseconds of a run of one sample on one thread; null where a file cannot be measured. */
async function millisecondsOf({ seed, signal }: Run, files: readonly Candidate[]): Promise<readonly (number | null)[]> {
  try {
    const options = { threads: [1], batch: [1], seconds: SECONDS }
    const [setting] = await measureLatency(files, options, { seed, executor: ortExecutor(), signal })
    return files.map((_, i) => setting?.models[i]?.latency.median ?? null)
  } catch (error) {
    if (error instanceof MncError && error.blame !== 'interrupt') return files.map(() => null)
    throw error
  }
}

/** The points with their latencies, and the float model's. */
export async function withLatencies(
  run: Run,
  points: readonly Point[],
): Promise<{ readonly points: readonly Point[]; readonly float: number | null }> {
  const { work } = run
  const kept = await work.readJson(FILE)
  const known = typeof kept === 'object' && kept !== null ? Reflect.get(kept, 'float') : undefined
  const todo = points.filter((p) => p.latency === null)
  if (todo.length === 0 && (typeof known === 'number' || known === null)) return { points, float: known }
  const files: Candidate[] = [{ file: run.recipeFacts.model, model: run.float }]
  for (const p of todo) {
    const file = work.pointAt(p.name, 'file')
    files.push({ file, model: await readModel(file) })
  }
  const [float = null, ...own] = await millisecondsOf(run, files)
  await work.writeJson(FILE, { float })
  const timed: Point[] = []
  for (const p of points) {
    const at = todo.indexOf(p)
    const point = at < 0 ? p : { ...p, latency: own[at] ?? null }
    if (at >= 0) await work.writePoint(point)
    timed.push(point)
  }
  return { points: timed, float }
}
