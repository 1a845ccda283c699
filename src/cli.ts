#!/usr/bin/env node
/** The command: hands the arguments to the program and its exit code to the shell. */
import { runCommandLine } from './commands/program.ts'

/** An interrupted command leaves no half-written file; those that save a checkpoint first listen themselves. */
const EXIT_CODES = { SIGINT: 130, SIGTERM: 143, SIGHUP: 129 } as const
for (const [signal, code] of Object.entries(EXIT_CODES))
  process.on(signal, async () => {
    if (process.listenerCount(signal) > 1) return
    const { dropTemporaries } = await import('./files.ts')
    dropTemporaries()
    process.exit(code)
  })

// a reader that has seen enough (`mnc info m.onnx | head`) is no error
process.stdout.on('error', (error: NodeJS.ErrnoException) => {
  if (error.code === 'EPIPE') process.exit(0)
  process.stderr.write(`mnc: standard output cannot be written: ${error.message}\n`)
  process.exit(2)
})
// nobody listens: the exit code still tells
process.stderr.on('error', () => {})
process.exitCode = await runCommandLine(process.argv.slice(2))
