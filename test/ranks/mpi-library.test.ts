/** An MPI library in the process: it leaves the C library's code as it is, in which other threads are. */
import assert from 'node:assert/strict'
import { execFileSync } from 'node:child_process'
import test from 'node:test'
import { evaluated } from '../support/compiled.ts'
import { skipped } from '../support/mpi.ts'

const isLinux = process.platform === 'linux'

/** Prints the functions of libc whose first bytes are others once MPI has begun. */
const script = (family: string): string => `
  import { openSync, readSync } from 'node:fs'
  import koffi from 'koffi'
  import { MpiGroup } from './src/ranks/mpi.ts'
  const libc = koffi.load('libc.so.6')
  const memory = openSync('/proc/self/mem')
  const names = ['mmap', 'munmap', 'brk', 'madvise', 'mremap']
  const start = (name) => {
    const bytes = Buffer.alloc(12)
    readSync(memory, bytes, 0, bytes.length, BigInt(libc.symbol(name)))
    return bytes.toString('hex')
  }
  const before = names.map(start)
  const group = await MpiGroup.open({ family: '${family}', size: 1, local: 1 })
  console.log(JSON.stringify({ size: group.size, changed: names.filter((name, i) => start(name) !== before[i]) }))
  group.close()
`

for (const [name, family] of [
  ['Open MPI', 'open-mpi'],
  ['MPICH', 'mpich'],
] as const)
  test(`${name} rewrites no function of the C library`, { skip: skipped(name) || !isLinux }, () => {
    const { UCX_MEM_EVENTS: _, ...env } = process.env
    const out = execFileSync(process.execPath, evaluated(script(family)), { encoding: 'utf8', env })
    assert.deepEqual(JSON.parse(out.trim().split('\n').at(-1)!), { size: 1, changed: [] })
  })
