/** Where the time of a run goes, by operator and by node, from the engine's own profile (onnxruntime's Chrome trace). */
import { readFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { bugError, usageError } from '../base/errors.ts'
import { readFileBytes, temporaryFolder } from '../base/files.ts'
import { type LongRun, stopIfAborted } from '../base/long-run.ts'
import type { Executor } from '../runtime/executor.ts'
import { type Kernel, lastRuns } from '../runtime/kernel-trace.ts'
import { batchPlan, dimsAt } from '../samples/batch-plan.ts'
import { randomFeeds } from '../samples/random-feeds.ts'
import type { Candidate } from './measure.ts'

export interface Share {
  /** Operator, or node as the engine names it. */
  readonly name: string
  /** Nodes of the operator. */
  readonly nodes: number
  /** In one run, ms. */
  readonly ms: number
  /** Fraction of all nodes' time. */
  readonly share: number
}

/** Where the time of a model goes, by operator and by node. */
export interface OperatorProfile {
  readonly operators: readonly Share[]
  readonly nodes: readonly Share[]
}

const WARM = 3
const RUNS = 10

/** Profiles a model at one setting; progress counts runs. A usage error for engines that do not write profiles. */
export async function profileOperators(
  { file, model }: Candidate,
  executor: Executor,
  { threads, batch, seed }: { readonly threads: number; readonly batch: number; readonly seed: number },
  { signal, onProgress }: LongRun = {},
): Promise<OperatorProfile> {
  if (executor.opset !== undefined) throw usageError('--profile needs onnxruntime', `${executor.device.id} keeps none`)
  const plan = await batchPlan(model, batch)
  const feeds = randomFeeds(model)(dimsAt(plan, plan.batch), [seed])
  const folder = await temporaryFolder(join(tmpdir(), 'mnc-profile-'))
  try {
    const session = await executor.load(await readFileBytes(file), { threads, profilePrefix: join(folder.path, 'run') })
    let written: string | undefined
    try {
      for (let i = 0; i < WARM + RUNS; i++) {
        stopIfAborted(signal)
        await session.run(feeds)
        onProgress?.(i + 1, WARM + RUNS)
      }
      written = session.endProfiling()
    } finally {
      await session.dispose()
    }
    if (written === undefined) throw bugError('the engine wrote no profile')
    return profileOf(await readFile(written, 'utf8'))
  } finally {
    await folder.remove()
  }
}

/** Sums over the last RUNS runs of a trace. */
export function profileOf(trace: string): OperatorProfile {
  const { runs, kernels } = lastRuns(trace, RUNS)
  const total = kernels.reduce((n, k) => n + k.us, 0)
  const shares = (keyOf: (k: Kernel) => string): Share[] => {
    const found = new Map<string, { us: number; nodes: Set<string> }>()
    for (const k of kernels) {
      const entry = found.get(keyOf(k)) ?? { us: 0, nodes: new Set() }
      found.set(keyOf(k), entry)
      entry.us += k.us
      entry.nodes.add(k.node)
    }
    return [...found]
      .map(([name, { us, nodes }]) => ({ name, nodes: nodes.size, ms: us / 1000 / runs, share: us / total }))
      .sort((a, b) => b.ms - a.ms)
  }
  return { operators: shares((k) => k.op), nodes: shares((k) => k.node) }
}
