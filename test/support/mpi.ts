/** Launchers of MPI that this machine has, and commands run under them. */
import { execFileSync, spawn } from 'node:child_process'
import { cli } from './compiled.ts'

export interface Launcher {
  readonly name: string
  /** The command line that starts `ranks` copies of a command. */
  readonly start: (ranks: number) => readonly string[]
}

const OPEN_MPI = ['--oversubscribe', ...(process.getuid?.() === 0 ? ['--allow-run-as-root'] : [])]

const known: readonly (Launcher & { readonly version: RegExp })[] = [
  {
    name: 'Open MPI',
    start: (n) => ['mpirun.openmpi', ...OPEN_MPI, '-n', String(n)],
    version: /Open MPI|OpenRTE/,
  },
  { name: 'MPICH', start: (n) => ['mpiexec.hydra', '-n', String(n)], version: /HYDRA/ },
]

/** Those that can be used: without koffi there are none. */
export const launchers: readonly Launcher[] = (await hasKoffi()) ? known.filter(isInstalled) : []

/** Why tests of a launcher are skipped; false where they are not. */
export const skipped = (name: string): string | false =>
  launchers.some((l) => l.name === name) ? false : `${name} or koffi is not installed`

export function launcherOf(name: string): Launcher {
  return known.find((l) => l.name === name)!
}

async function hasKoffi(): Promise<boolean> {
  try {
    await import('koffi')
    return true
  } catch {
    return false
  }
}

function isInstalled({ start, version }: (typeof known)[number]): boolean {
  try {
    return version.test(execFileSync(start(1)[0]!, ['--version'], { encoding: 'utf8', stdio: 'pipe' }))
  } catch {
    return false
  }
}

export const mnc: readonly string[] = [process.execPath, cli]

export interface Ended {
  readonly code: number | null
  readonly err: string
}

/** Runs a command line. */
export function run(words: readonly string[], env: Readonly<Record<string, string>> = {}): Promise<Ended> {
  const child = spawn(words[0]!, words.slice(1), {
    stdio: ['ignore', 'ignore', 'pipe'],
    env: { ...process.env, MNC_CACHE: 'off', ...env },
  })
  let err = ''
  child.stderr.on('data', (s: Buffer) => {
    err += s
  })
  return new Promise((done) => child.on('close', (code) => done({ code, err })))
}
