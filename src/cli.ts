#!/usr/bin/env node
/** The command: passes the arguments to the program and its exit code to the shell. */
import { endOnSignals } from './commands/interrupt.ts'
import { runCommandLine } from './commands/program.ts'

endOnSignals()

// a reader that has seen enough (`mnc info m.onnx | head`) is not an error
process.stdout.on('error', (error: NodeJS.ErrnoException) => {
  if (error.code === 'EPIPE') process.exit(0)
  process.stderr.write(`mnc: standard output cannot be written: ${error.message}\n`)
  process.exit(2)
})
// nobody listens: the exit code still tells
process.stderr.on('error', () => {})
process.exitCode = await runCommandLine(process.argv.slice(2))
