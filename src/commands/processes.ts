/** `--jobs N`: N processes of the same command, each with a share of its work; what they wrote is joined. */
import { spawn } from 'node:child_process'
import { rm } from 'node:fs/promises'
import os from 'node:os'
import { fileURLToPath } from 'node:url'
import { type Blame, MncError } from '../base/errors.ts'
import { inLanes } from '../base/lanes.ts'
import { WITH_PARENT } from '../base/watched-process.ts'
import { joinParts, type Whole } from '../shards/part.ts'
import { type Shard, shardName } from '../shards/shard.ts'
import type { CommandIO } from './io.ts'

/** The command itself: beside the chunks that the build writes, or the TypeScript one. */
const CLI = fileURLToPath(new URL(import.meta.url.endsWith('.ts') ? '../cli.ts' : '../cli.js', import.meta.url))

interface Jobs {
  readonly jobs: number
  /** Of each; 0: the cores are shared. */
  readonly threads: number
  /** Files of shares. */
  nameOf(shard: Shard): string
}

export async function inProcesses(command: string, jobs: Jobs, io: CommandIO): Promise<Whole> {
  const files: string[] = []
  const partOf = (shard: Shard): readonly string[] => {
    files.push(jobs.nameOf(shard))
    return ['--part', jobs.nameOf(shard)]
  }
  await inShares(command, jobs.jobs, threadsOf(jobs.jobs, jobs.threads), partOf, io)
  const whole = await joinParts(files)
  for (const file of files) await rm(file, { force: true })
  return whole
}

/** Of each process: what the user says, or the cores divided. */
export const threadsOf = (jobs: number, asked: number): number =>
  asked || jobs === 1 ? asked : Math.max(1, Math.floor(os.availableParallelism() / jobs))

/** The command of `io` in `of` processes, each with a share of its work and further words. */
export async function inShares(
  command: string,
  of: number,
  threads: number,
  more: (shard: Shard) => readonly string[],
  io: CommandIO,
): Promise<void> {
  const shards = Array.from({ length: of }, (_, i): Shard => ({ index: i + 1, of }))
  const progress = io.progress(`${command} shares`, of)
  let done = 0
  try {
    await inLanes(shards, of, async (shard) => {
      const own = ['--jobs', '1', '--shard', shardName(shard), ...more(shard)]
      await runMnc(io.words, [...own, '--threads', String(threads), '--quiet', '--json'])
      progress.update(++done)
    })
  } finally {
    progress.end()
  }
}

/**
 * Runs a command line, with further flags, in a process of its own, which ends with this one, however this one ends; throws the
 * error that it reports.
 */
export async function runMnc(words: readonly string[], flags: readonly string[]): Promise<void> {
  // behind -- there are no flags
  const at = words.includes('--') ? words.indexOf('--') : words.length
  const line = [...words.slice(0, at), ...flags, ...words.slice(at)]
  const child = spawn(process.execPath, [...process.execArgv, CLI, ...line], {
    env: { ...process.env, [WITH_PARENT]: '1' },
    stdio: ['ignore', 'pipe', 'pipe'],
    windowsHide: true,
  })
  const end = (): void => void child.kill()
  process.on('exit', end)
  let [out, err] = ['', '']
  child.stdout.on('data', (s: Buffer) => {
    out += s
  })
  child.stderr.on('data', (s: Buffer) => {
    err += s
  })
  try {
    const [code, signal] = await new Promise<readonly [number | null, string | null]>((settle, refuse) => {
      child.on('error', refuse)
      child.on('close', (code, signal) => settle([code, signal]))
    })
    if (code === 0) return
    throw reported(out) ?? unreported(code, signal, err.trim())
  } finally {
    process.off('exit', end)
  }
}

const BLAME: Readonly<Record<number, Blame>> = { 1: 'pass', 2: 'user', 3: 'gate', 130: 'interrupt' }

/** Of a command that was killed, or that failed behind its answer, as a gate does. */
function unreported(code: number | null, signal: string | null, said: string): MncError {
  const ended = `a process that shared the work ended with ${signal ?? `code ${code}`}`
  const blame = (code !== null && BLAME[code]) || 'user'
  return new MncError(said === '' ? ended : `${ended}: ${said}`, { code: 'shared-work', blame })
}

/** The error in the document of a command that failed; null where there is none. */
function reported(out: string): MncError | null {
  try {
    const { code, exit, message, file, node, next } = JSON.parse(out).error
    const details = { file: file ?? undefined, node: node ?? undefined, next: next ?? undefined }
    return new MncError(message, { code, blame: BLAME[exit] ?? 'pass', ...details })
  } catch {
    return null
  }
}
