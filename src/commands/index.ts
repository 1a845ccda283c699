/** Every command, in the order of the help. */
import { bench } from './bench.ts'
import { bnUpdate } from './bn-update.ts'
import { build } from './build.ts'
import { check } from './check.ts'
import { completionOf } from './completion.ts'
import { compress } from './compress.ts'
import { convert } from './convert.ts'
import type { CommandDef } from './define-command.ts'
import { diff } from './diff.ts'
import { doctor } from './doctor.ts'
import { evalCommand } from './eval.ts'
import { exportCommand } from './export.ts'
import { info } from './info.ts'
import { merge } from './merge.ts'
import { pass } from './pass.ts'
import { ptq } from './ptq.ts'
import { report } from './report.ts'
import { run } from './run.ts'
import { score } from './score.ts'
import { sensitivity } from './sensitivity.ts'
import { train } from './train.ts'

export const commands: readonly CommandDef[] = [
  compress,
  build,
  info,
  convert,
  pass,
  ptq,
  train,
  bnUpdate,
  evalCommand,
  exportCommand,
  check,
  bench,
  score,
  diff,
  sensitivity,
  merge,
  run,
  report,
  doctor,
  completionOf(() => commands),
]
