/** Whether all processes that train together hold the same state, by its hash. */
import { createHash } from 'node:crypto'
import { MncError } from '../../base/errors.ts'
import type { Group } from '../../ranks/group.ts'

/** Bytes of the hash that a double holds exactly. */
const HASH_BYTES = 6

/** Throws the same error on all ranks, which names those that differ from rank 0. */
export function requireSameState(group: Group, step: number, state: readonly Float32Array[]): void {
  const hash = createHash('sha256')
  for (const v of state) hash.update(new Uint8Array(v.buffer, v.byteOffset, v.byteLength))
  const all = group.gather([step, hash.digest().readUIntBE(0, HASH_BYTES)])
  const differ = all.flatMap(([theirs, own], rank) => (theirs === all[0]![0] && own === all[0]![1] ? [] : [rank]))
  if (differ.length === 0) return
  const steps = all.map(([theirs]) => theirs)
  const what = steps.every((s) => s === steps[0])
    ? `the state after step ${step}`
    : `the steps that they have done (${steps.join(', ')})`
  throw new MncError(`rank ${differ.join(', ')} and rank 0 differ in ${what}`, {
    ...{ code: 'ranks-differ', blame: 'user' },
    next: 'give all ranks the same files, the same checkpoint, the same version of mnc and onnxruntime, and one kind of processor',
  })
}
