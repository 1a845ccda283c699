/** An MPI library in the process: its binary interface is found by itself, and it leaves the C library's code, in which other threads are. */
import assert from 'node:assert/strict'
import { execFileSync } from 'node:child_process'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join, resolve } from 'node:path'
import test, { after } from 'node:test'
import { evaluated } from '../support/compiled.ts'
import { hasKoffi, launcherOf, skipped } from '../support/mpi.ts'

const folder = mkdtempSync(join(tmpdir(), 'mnc-mpi-'))
after(() => rmSync(folder, { recursive: true }))

const isLinux = process.platform === 'linux'

/** Prints what one rank by itself gets, and the functions of libc whose first bytes are others once MPI has begun. */
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
  const changed = names.filter((name, i) => start(name) !== before[i])
  const [total, floats, doubles] = [new Float32Array([4, 6]), new Float32Array([1.5]), new Float64Array([0.1])]
  group.foldInOrder(total, new Float32Array([1, 2]), new Float32Array([0.5, 1]))
  group.sum(floats)
  group.sum(doubles)
  const sums = [...total, ...floats, ...doubles]
  console.log(JSON.stringify({ rank: group.rank, size: group.size, sums, gathered: group.gather([3, 4]), changed }))
  group.close()
`

/** `library`: in place of the one that is found by itself. */
function worksAlone(family: string, library?: string): void {
  const { UCX_MEM_EVENTS: _, ...inherited } = process.env
  const env = { ...inherited, ...(library && { MNC_MPI: library }) }
  const out = execFileSync(process.execPath, evaluated(script(family)), { encoding: 'utf8', env })
  const want = { rank: 0, size: 1, sums: [3, 8, 1.5, 0.1], gathered: [[3, 4]], changed: [] }
  assert.deepEqual(JSON.parse(out.trim().split('\n').at(-1)!), want)
}

for (const [name, family] of [
  ['Open MPI', 'open-mpi'],
  ['MPICH', 'mpich'],
] as const)
  test(`${name} rewrites no function of the C library`, { skip: skipped(name) || !isLinux }, () =>
    worksAlone(family, launcherOf(name).library),
  )

const compiler = (): string | false => {
  if (!hasKoffi || !isLinux) return 'koffi or Linux is missing'
  try {
    execFileSync('gcc', ['--version'], { stdio: 'ignore' })
    return false
  } catch {
    return 'gcc is not installed'
  }
}

test("the standard's interface is known by the library's own word, whoever made it", { skip: compiler() }, () => {
  const library = join(folder, 'libany.so')
  execFileSync('gcc', ['-shared', '-fPIC', '-o', library, resolve('test/ranks/standard-mpi.c')])
  for (const family of ['open-mpi', 'mpich']) worksAlone(family, library)
})

/** A libmpi_abi.so of MPI 5. */
const named = process.env.MNC_TEST_MPI_ABI ?? ''
test("a library with the standard's interface", { skip: !named && 'MNC_TEST_MPI_ABI names none' }, () => {
  worksAlone('mpich', named)
})
