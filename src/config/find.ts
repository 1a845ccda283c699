/** Where the user's configuration is. Imports nothing heavy: every command asks. */
import { existsSync, statSync } from 'node:fs'
import { dirname, join, resolve } from 'node:path'

export const CONFIG_FILES = ['mnc.config.ts', 'mnc.config.js', 'mnc.config.mjs'] as const

/** The nearest configuration in the folders of `files` and in `folder`, or above them; null where there is none. */
export function findConfig(files: readonly string[], folder: string): string | null {
  const starts = files
    .filter((f) => existsSync(f))
    .map((f) => (statSync(f).isDirectory() ? resolve(f) : dirname(resolve(f))))
  for (const start of [...starts, resolve(folder)])
    for (let at = start; ; at = dirname(at)) {
      const found = CONFIG_FILES.map((name) => join(at, name)).find((path) => existsSync(path))
      if (found) return found
      if (dirname(at) === at) break
    }
  return null
}
