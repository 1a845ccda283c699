/** Which launcher started a process, by its environment. */
import assert from 'node:assert/strict'
import test from 'node:test'
import { launched } from '../../src/ranks/launched.ts'

test('a process knows how many others were started with it', () => {
  const openMpi = { OMPI_COMM_WORLD_SIZE: '4', OMPI_COMM_WORLD_LOCAL_SIZE: '2', PMIX_RANK: '1' }
  assert.deepEqual(launched(openMpi), { family: 'open-mpi', size: 4, local: 2 })
  assert.deepEqual(launched({ PMI_SIZE: '3', MPI_LOCALNRANKS: '3' }), { family: 'mpich', size: 3, local: 3 })
  assert.deepEqual(launched({ PMI_SIZE: '2' }), { family: 'mpich', size: 2, local: null })
  const slurm = { PMIX_RANK: '0', SLURM_STEP_NUM_TASKS: '8', SLURM_STEP_TASKS_PER_NODE: '4(x2)' }
  assert.deepEqual(launched(slurm), { family: 'open-mpi', size: 8, local: 4 })
})

test('a process by itself is not a rank, whatever started it', () => {
  for (const env of [{}, { OMPI_COMM_WORLD_SIZE: '1' }, { PMI_SIZE: '1' }, { SLURM_STEP_NUM_TASKS: '8' }])
    assert.equal(launched(env), null)
})
