/**
 * The tests of ranks under MPI libraries that Debian does not have:
 *
 *   node --import tsx bench/ranks/libraries.ts NAME=PROGRAM,LIBRARY ... [--out bench/results/mpi-libraries.json]
 *
 * NAME is open-mpi or mpich, whose launcher PROGRAM is and whose LIBRARY, or one with the standard's interface, the ranks load:
 *
 *   mpich=/opt/mpich/bin/mpiexec,/opt/mpich/lib/libmpi_abi.so.1
 *
 * What passed of test/train/ranks.test.ts and test/ranks/mpi-library.test.ts: the bits of one process at 4 ranks, 4 ranks that go
 * on from the checkpoint of 2, --reduce fast within 1e-5, a rank that is killed is named, a signal that stops all.
 */
import { execFileSync, spawnSync } from 'node:child_process'
import { writeFileSync } from 'node:fs'
import { parseArgs } from 'node:util'
import { machine } from '../torch-peer.ts'

const { values: args, positionals } = parseArgs({
  options: { out: { type: 'string', default: 'bench/results/mpi-libraries.json' } },
  allowPositionals: true,
})

const SIDES = {
  'open-mpi': { name: 'Open MPI', variable: 'MNC_TEST_OPEN_MPI' },
  mpich: { name: 'MPICH', variable: 'MNC_TEST_MPICH' },
} as const
type Side = keyof typeof SIDES
const isSide = (name: string | undefined): name is Side => name !== undefined && name in SIDES

/** First line of what a library says of itself, in a process of its own. */
function versionOf(library: string): string {
  const script = `
    import koffi from 'koffi'
    const text = Buffer.alloc(8192)
    koffi.load(process.argv[1]).func('MPI_Get_library_version', 'int', ['void*', 'void*'])(text, new Int32Array(1))
    console.log(text.toString('utf8').split(/\\n|\\0/)[0])
  `
  const out = execFileSync(process.execPath, ['--input-type=module', '-e', script, library], { encoding: 'utf8' })
  return out.trim().replace(/\s+/g, ' ').split(', package')[0]!
}

const libraries = positionals.map((words) => {
  const [side, files = ''] = words.split('=')
  const [program, library] = files.split(',')
  if (!isSide(side) || !program || !library) throw new Error(`not NAME=PROGRAM,LIBRARY: ${words}`)
  const { name, variable } = SIDES[side]
  const env = { ...process.env, [variable]: files, ...(library.includes('abi') && { MNC_TEST_MPI_ABI: library }) }
  const tests = ['test/train/ranks.test.ts', 'test/ranks/mpi-library.test.ts']
  const run = spawnSync(process.execPath, ['test/run.mjs', `--test-name-pattern=^${name}|interface`, ...tests], {
    ...{ env, encoding: 'utf8', maxBuffer: 1e9 },
  })
  const of = (mark: string): string[] =>
    [...run.stdout.matchAll(new RegExp(`^${mark} (.*) \\([\\d.]+ms\\)$`, 'gm'))].map(([, test]) => test!)
  const failed = [...new Set(of('✖'))]
  const found = { version: versionOf(library), library: library.split('/').at(-1), passed: of('✔'), failed }
  console.error(`${found.version}, ${found.library}: ${found.passed.length} passed, ${failed.length} failed`)
  return found
})
writeFileSync(args.out, `${JSON.stringify({ machine: machine(), libraries }, null, 2)}\n`)
