/**
 * What a stage takes where it is deployed, beside what its file takes in training (masks, latent weights, scales that are learned):
 * bytes of the file as `packed`, where the stage is no export already, and the time of a run of files that are deployed.
 */
import { MncError } from '../base/errors.ts'
import { readModel } from '../codec/codec.ts'
import { exportModel } from '../export/export-model.ts'
import { compressesNothing } from '../export/gate-size.ts'
import { type Measured, measureLatency } from '../latency/measure.ts'
import type { StageRecord } from './record.ts'
import type { WorkFolder } from './work-folder.ts'

/** `as`: the format of the file; null for the stage's own, which stores floats. */
export interface Deployed {
  readonly bytes: number
  readonly as: string | null
}

export interface StageLatency extends Pick<Measured, 'latency' | 'speedup' | 'batch'> {
  readonly stage: string
}

/** null where the graph cannot be exported, which `log` is told. */
export async function deployedOf(
  record: StageRecord,
  folder: WorkFolder,
  log: (message: string) => void,
): Promise<Deployed | null> {
  const { bytes } = record.metrics!
  if (record.export) return { bytes, as: record.export.format }
  try {
    const { report } = await exportModel(await readModel(folder.files(record.stage).model), { shortNames: true })
    return compressesNothing(report) === null ? { bytes: report.bytes, as: report.format } : { bytes, as: null }
  } catch (error) {
    if (!(error instanceof MncError) || error.blame === 'interrupt') throw error
    log(`${record.stage}: not counted as it deploys: ${error.describe()}`)
    return null
  }
}

/** Of the baseline and all exports, side by side on one thread with one sample, the first the baseline; none where they do not run. */
export async function latencies(
  baseline: string,
  records: readonly StageRecord[],
  folder: WorkFolder,
  { seconds, log }: { readonly seconds: number; readonly log: (message: string) => void },
): Promise<StageLatency[]> {
  const exports = records.filter((r) => r.export && r.stage !== baseline).map((r) => r.stage)
  if (seconds === 0 || exports.length === 0) return []
  const stages = [baseline, ...exports]
  try {
    const candidates = []
    for (const stage of stages) {
      const file = folder.files(stage).model
      candidates.push({ file, model: await readModel(file) })
    }
    const [setting] = await measureLatency(candidates, { seconds })
    return setting!.models.map(({ latency, speedup, batch }, i) => ({ stage: stages[i]!, latency, speedup, batch }))
  } catch (error) {
    if (!(error instanceof MncError) || error.blame === 'interrupt') throw error
    log(`latency is not measured: ${error.describe()}`)
    return []
  }
}
