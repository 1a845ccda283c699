/** The option of scales for groups of weights, and what it may be: weight-groups.ts. */
import { usageError } from '../base/errors.ts'
import { optionTable } from '../base/options.ts'

const LEAST = 16
const MOST = 256

export const weightGroupOptions = optionTable({
  weightGroup: {
    type: 'integer',
    description: `Weights of an output channel that share a scale, a power of two from ${LEAST} to ${MOST}, in layers other than convolutions; without it one scale for the channel`,
  },
})

/** A usage error for a size that no kernel takes. */
export function requireGroup(size: number | undefined): void {
  if (size === undefined || (size >= LEAST && size <= MOST && Number.isInteger(Math.log2(size)))) return
  throw usageError(`--weight-group=${size} must be a power of two from ${LEAST} to ${MOST}`, 'leave it out for none')
}
