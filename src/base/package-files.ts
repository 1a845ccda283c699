/** Files that come with the package: its version, specs, recipes, data. */
import { existsSync, readFileSync } from 'node:fs'
import { fileURLToPath } from 'node:url'

/** The folder of package.json: above this file in the sources, in the build, and in the bundle of the command. */
function packageFolder(): URL {
  let folder = new URL('.', import.meta.url)
  while (!existsSync(new URL('package.json', folder))) {
    const above = new URL('..', folder)
    if (above.href === folder.href) break
    folder = above
  }
  return folder
}

/** Found on first use: a browser, which has no files, loads this too. */
let root: URL | undefined

/** The path of a file or folder of the package. */
export function packageFile(path: string): string {
  root ??= packageFolder()
  return fileURLToPath(new URL(path, root))
}

export const packageVersion = (): string =>
  (JSON.parse(readFileSync(packageFile('package.json'), 'utf8')) as { version: string }).version
