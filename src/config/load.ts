/** Loads the user's configuration, TypeScript too, without a build step. */
import { existsSync } from 'node:fs'
import { resolve } from 'node:path'
import { pathToFileURL } from 'node:url'
import { MncError, usageError } from '../base/errors.ts'
import { type Config, useConfig } from './config.ts'
import { prepareImports } from './imports.ts'

/** Loads a configuration and puts it to use. A usage error that names the file for whatever goes wrong in it. */
export async function loadConfig(path: string): Promise<Config> {
  const config = await read(path)
  useConfig(config, path)
  return config
}

async function read(path: string): Promise<Config> {
  if (!existsSync(path)) throw usageError(`${path}: there is no such configuration`)
  prepareImports()
  try {
    const module: unknown = await import(pathToFileURL(resolve(path)).href)
    if (typeof module === 'object' && module !== null && 'default' in module) return module.default as Config
  } catch (cause) {
    if (cause instanceof MncError) throw cause.inFile(path)
    throw new MncError(`it cannot be loaded: ${cause instanceof Error ? cause.message : cause}`, {
      ...{ code: 'bad-config', blame: 'user', file: path, cause },
      next: 'MNC_DEBUG=1 shows where',
    })
  }
  throw usageError('it has no default export', 'export default defineConfig({ ... })').inFile(path)
}
