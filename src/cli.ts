#!/usr/bin/env node
/** The command: hands the arguments to the program and its exit code to the shell. */
import { runCommandLine } from './commands/program.ts'

// a reader that has seen enough (`mnc info m.onnx | head`) is no error
process.stdout.on('error', (error: NodeJS.ErrnoException) => {
  if (error.code === 'EPIPE') process.exit(0)
  throw error
})
process.exitCode = await runCommandLine(process.argv.slice(2))
