/** A target of the user's own is checked when its configuration is read, not when a file is written for it. */
import { parseReader } from '../../analysis/readers.ts'
import { parseOptions } from '../../base/options.ts'
import { exportOptions } from '../export-options.ts'
import type { TargetDef } from './target.ts'

/** The options of its forms, and its readers, as on the command line: usage errors. */
export function checkTarget({ name, forms, readers }: TargetDef): void {
  for (const { options } of forms) parseOptions(exportOptions, { ...options }, `target '${name}'`)
  for (const reader of readers) parseReader(reader)
}
