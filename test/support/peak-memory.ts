/** Peak memory of a script in a process of its own. */
import assert from 'node:assert/strict'
import { spawnSync } from 'node:child_process'
import { evaluated } from './compiled.ts'

export interface Peak {
  /** What the script logged. */
  readonly output: string
  /** Of the process, in MB. */
  readonly peak: number
}

/**
 * Runs TypeScript that imports from `./src/`. The peak is that of the new program's own memory where the system tells: what
 * getrusage says begins with the memory of the process that started it.
 */
export function peakOf(script: string, ...args: readonly string[]): Peak {
  const own = `
    ;{
      const { readFileSync } = await import('node:fs')
      let status = ''
      try { status = readFileSync('/proc/self/status', 'utf8') } catch {}
      console.log(Number(/VmHWM:\\s+(\\d+)/.exec(status)?.[1] ?? process.resourceUsage().maxRSS) / 1024)
    }`
  const flags = ['--expose-gc', ...evaluated(script + own)]
  const { status, stdout, stderr } = spawnSync(process.execPath, [...flags, ...args], { encoding: 'utf8' })
  assert.equal(status, 0, stderr)
  const lines = stdout.trim().split('\n')
  return { output: lines.slice(0, -1).join('\n'), peak: Number(lines.at(-1)) }
}
