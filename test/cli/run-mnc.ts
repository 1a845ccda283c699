/** The command line in this process. */
import { runCommandLine } from '../../src/commands/program.ts'
import { Sink } from './sink.ts'

export async function mnc(...args: readonly string[]): Promise<{ code: number; out: string; err: string }> {
  const [stdout, stderr] = [new Sink(), new Sink()]
  const code = await runCommandLine(args, { stdout, stderr })
  return { code, out: stdout.text, err: stderr.text }
}
