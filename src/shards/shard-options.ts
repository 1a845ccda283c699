/** Options of commands whose work divides into shares. */
import { optionTable } from '../base/options.ts'

const MOST_JOBS = 64

export const shardOptions = optionTable({
  jobs: {
    type: 'integer',
    minimum: 1,
    maximum: MOST_JOBS,
    default: 1,
    description: 'Processes on this machine that share the work, and its cores',
  },
  shard: {
    type: 'string',
    placeholder: 'I/N',
    description: 'Do share I of N only, from 1/N to N/N, and write it to a file; mnc merge joins them',
  },
  part: {
    type: 'string',
    placeholder: 'FILE',
    description: 'File of the share; MODEL.COMMAND.I-of-N.json by default',
  },
})
