/** The JSON that a scan writes, from which a scan that was stopped continues. */
import { createHash } from 'node:crypto'
import { existsSync } from 'node:fs'
import { usageError } from '../base/errors.ts'
import { readText } from '../base/files.ts'
import { packageVersion } from '../base/package-files.ts'
import { encodeModel } from '../codec/codec.ts'
import type { SampleSet } from '../data/array-set.ts'
import type { Model } from '../graph/model.ts'
import type { Point } from './point.ts'

/** What measurements depend on. Not: which settings are tried in which layers, the tolerance, the threads. */
export function scanIdentity(
  model: Model,
  options: Readonly<Record<string, unknown>>,
  on: Readonly<Record<string, unknown>> & { readonly images?: SampleSet },
): string {
  const { metric, limit, calibrate, batch } = options
  const { images, ...rest } = on
  const set = images && [images.name, images.size, images.contentHash()]
  const facts = { version: packageVersion(), metric, limit, calibrate, batch, set, ...rest }
  return hash(Buffer.concat([Buffer.from(JSON.stringify(facts)), encodeModel(model)]))
}

const hash = (bytes: Uint8Array): string => createHash('sha256').update(bytes).digest('hex').slice(0, 16)

/** The measurements in `path` that belong to this scan; a usage error if the file is not a scan at all. */
export async function readScan(path: string, identity: string, log: (m: string) => void): Promise<readonly Point[]> {
  if (!existsSync(path)) return []
  const refuse = () => usageError(`'${path}' exists but contains no sensitivity scan`, 'name another file with -o')
  const text = await readText(path)
  let json: unknown
  try {
    json = JSON.parse(text)
  } catch {
    throw refuse()
  }
  if (!isScan(json)) throw refuse()
  if (json.identity === identity) {
    if (json.points.length > 0) log(`${json.points.length} measurements are already in ${path}`)
    return json.points
  }
  log(`${path} contains a scan of another model, data set or metric: it is replaced`)
  return []
}

const isScan = (x: unknown): x is { identity: string; points: readonly Point[] } =>
  typeof x === 'object' && x !== null && 'identity' in x && 'points' in x && Array.isArray(x.points)
