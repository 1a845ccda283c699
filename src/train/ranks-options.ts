/** Options of a training run that several processes share. */
import { type OptionsOf, optionTable } from '../base/options.ts'

export const ranksOptions = optionTable({
  reduce: {
    type: 'string',
    enum: ['exact', 'fast'],
    default: 'exact',
    description:
      'Under mpirun, how gradients are summed: exact: in a fixed order, with the bits of one process that accumulates them; fast: in the order of the MPI library',
  },
  syncBn: {
    type: 'boolean',
    default: false,
    description:
      'Under mpirun, BatchNormalization sees the batches of all processes as one: N of --batch B train as one of --batch N*B, to rounding',
  },
  compareEvery: {
    type: 'integer',
    minimum: 1,
    default: 100,
    description: 'Under mpirun, steps between comparisons of the state of all processes',
  },
})

export type RanksOptions = OptionsOf<typeof ranksOptions>
