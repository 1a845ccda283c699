/** Launchers of MPI that this machine has, and commands run under them. */
import { execFileSync, spawn } from 'node:child_process'
import { cli } from './compiled.ts'

export interface Launcher {
  readonly name: 'Open MPI' | 'MPICH'
  readonly program: string
  /** The command line that starts `ranks` copies of a command. */
  readonly start: (ranks: number) => readonly string[]
  /** In the environment of each rank: its number. */
  readonly rank: string
  /** The file of the library, where it is not the one that is found by itself. */
  readonly library?: string | undefined
}

const ROOT = process.getuid?.() === 0 ? ['--allow-run-as-root'] : []

/**
 * Debian's, or others that the environment names by program and library: MNC_TEST_MPICH=/opt/bin/mpiexec,/opt/lib/libmpi_abi.so.1.
 */
const known: readonly (Launcher & { readonly version: RegExp })[] = [
  {
    ...launcher('Open MPI', 'MNC_TEST_OPEN_MPI', 'mpirun.openmpi', ['--oversubscribe', ...ROOT]),
    ...{ rank: 'OMPI_COMM_WORLD_RANK', version: /Open MPI|OpenRTE/ },
  },
  {
    ...launcher('MPICH', 'MNC_TEST_MPICH', 'mpiexec.hydra', []),
    ...{ rank: 'PMI_RANK', version: /HYDRA/ },
  },
]

function launcher(name: Launcher['name'], variable: string, usual: string, options: readonly string[]) {
  const [program = usual, library] = process.env[variable]?.split(',') ?? []
  const environment = library ? ['env', `MNC_MPI=${library}`] : []
  return { name, program, library, start: (n: number) => [...environment, program, ...options, '-n', String(n)] }
}

export const hasKoffi = await import('koffi').then(
  () => true,
  () => false,
)

/** Those that can be used: without koffi there are none. */
export const launchers: readonly Launcher[] = hasKoffi ? known.filter(isInstalled) : []

/** Why tests of a launcher are skipped; false where they are not. */
export const skipped = (name: string): string | false =>
  launchers.some((l) => l.name === name) ? false : `${name} or koffi is not installed`

export function launcherOf(name: string): Launcher {
  return known.find((l) => l.name === name)!
}

function isInstalled({ program, version }: (typeof known)[number]): boolean {
  try {
    return version.test(execFileSync(program, ['--version'], { encoding: 'utf8', stdio: 'pipe' }))
  } catch {
    return false
  }
}

export const mnc: readonly string[] = [process.execPath, cli]

export interface Ended {
  readonly code: number | null
  readonly out: string
  readonly err: string
}

/** Runs a command line. */
export function run(words: readonly string[], env: Readonly<Record<string, string>> = {}): Promise<Ended> {
  const child = spawn(words[0]!, words.slice(1), {
    stdio: ['ignore', 'pipe', 'pipe'],
    env: { ...process.env, MNC_CACHE: 'off', ...env },
  })
  let [out, err] = ['', '']
  child.stdout.on('data', (s: Buffer) => {
    out += s
  })
  child.stderr.on('data', (s: Buffer) => {
    err += s
  })
  return new Promise((done) => child.on('close', (code) => done({ code, out, err })))
}
