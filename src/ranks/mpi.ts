/**
 * A group of processes that mpirun started. Calls block this thread until all ranks have made them: a step's collectives
 * take a millisecond, while the threads of the loader prepare the next batches.
 *
 * The ordered sum is a reduce-scatter and an all-gather, as in the ring algorithm of an all-reduce: each rank receives one
 * chunk of the vector from all, folds it in the order of the ranks, and sends the result to all. It moves 2 (N - 1) / N
 * of the vector over each link, however many ranks there are.
 */
import { bugError } from '../base/errors.ts'
import { fold, type Group } from './group.ts'
import type { Launch } from './launched.ts'
import { loadMpi, type MpiLibrary } from './mpi-library.ts'

/** MPI_THREAD_FUNNELED: one thread of several makes all calls. */
const FUNNELED = 1

export class MpiGroup implements Group {
  readonly rank: number
  readonly size: number
  readonly #mpi: MpiLibrary
  #isOpen = true
  #scratch: { readonly sent: Float32Array; readonly received: Float32Array; readonly total: Float32Array } | null = null

  private constructor(mpi: MpiLibrary) {
    this.#mpi = mpi
    mpi.call('MPI_Init_thread', null, null, FUNNELED, new Int32Array(1))
    const number = new Int32Array(1)
    mpi.call('MPI_Comm_rank', mpi.world, number)
    this.rank = number[0]!
    mpi.call('MPI_Comm_size', mpi.world, number)
    this.size = number[0]!
    // a rank that ends early would leave the others waiting: the exit ends them too
    process.on('exit', (code) => {
      if (this.#isOpen) mpi.call('MPI_Abort', mpi.world, code || 1)
    })
  }

  static async open({ family }: Launch): Promise<MpiGroup> {
    return new MpiGroup(await loadMpi(family))
  }

  get version(): string {
    return this.#mpi.version
  }

  foldInOrder(total: Float32Array, values: Float32Array, keep: Float32Array): void {
    const { size, rank } = this
    if (values.length !== total.length || keep.length !== total.length) throw bugError('vectors of different sizes')
    const chunk = Math.ceil(total.length / size)
    const { sent, received, total: whole } = this.#buffers(chunk * size)
    const mpi = this.#mpi
    sent.set(values)
    mpi.call('MPI_Alltoall', sent, chunk, mpi.float, received, chunk, mpi.float, mpi.world)
    const from = rank * chunk
    const count = Math.max(0, Math.min(chunk, total.length - from))
    for (let r = 0; r < size; r++) fold(total, received.subarray(r * chunk), keep, from, count)
    sent.set(total.subarray(from, from + count))
    mpi.call('MPI_Allgather', sent, chunk, mpi.float, whole, chunk, mpi.float, mpi.world)
    total.set(whole.subarray(0, total.length))
  }

  sum(values: Float32Array | Float64Array): void {
    const mpi = this.#mpi
    const { length } = values
    const isSingle = values instanceof Float32Array
    const sent = isSingle ? this.#buffers(length).sent : new Float64Array(length)
    sent.set(values)
    mpi.call('MPI_Allreduce', sent, values, length, isSingle ? mpi.float : mpi.double, mpi.plus, mpi.world)
  }

  gather(values: readonly number[]): number[][] {
    const mpi = this.#mpi
    const count = values.length
    const all = new Float64Array(count * this.size)
    mpi.call('MPI_Allgather', Float64Array.from(values), count, mpi.double, all, count, mpi.double, mpi.world)
    return Array.from({ length: this.size }, (_, r) => [...all.subarray(r * count, (r + 1) * count)])
  }

  /** All ranks are here: from now on each may end by itself. */
  close(): void {
    if (!this.#isOpen) return
    this.#isOpen = false
    this.#mpi.call('MPI_Finalize')
  }

  #buffers(length: number) {
    if (!this.#scratch || this.#scratch.sent.length < length) {
      const vector = () => new Float32Array(length)
      this.#scratch = { sent: vector(), received: vector(), total: vector() }
    }
    return this.#scratch
  }
}
