/** The sources without types, as the runner of the tests compiles them (../compile.mjs): for processes of their own. */
import { resolve } from 'node:path'
import { pathToFileURL } from 'node:url'

/** The compiled file of a source, named from the root of the tree. */
export const compiledFile = (source: string): string => resolve('build/js', source.replace(/\.ts$/, '.js'))

/** The same, to be imported by a name that only the run knows. */
export const compiledUrl = (source: string): string => pathToFileURL(compiledFile(source)).href

/** The command. */
export const cli = compiledFile('src/cli.ts')

/** Arguments of a process that carries out a module which imports from './src/NAME.ts'. */
export const evaluated = (module: string): readonly string[] => [
  '--input-type=module',
  '--eval',
  module.replace(/'\.\/(src\/[^']*\.ts)'/g, (_, source: string) => `'${compiledUrl(source)}'`),
]
