/** Node's hooks for imports (imports.ts), in the thread that Node runs them in. */
import { readFile } from 'node:fs/promises'
import type { LoadHook, ResolveHook } from 'node:module'
import { fileURLToPath } from 'node:url'

export interface HookData {
  /** The module that `mnc` is. */
  readonly library: string
  /** Whether TypeScript is stripped here. */
  readonly strips: boolean
}

let data: HookData | undefined

export function initialize(given: HookData): void {
  data = given
}

export const resolve: ResolveHook = (specifier, context, next) =>
  specifier === 'mnc' && data ? { url: data.library, shortCircuit: true } : next(specifier, context)

export const load: LoadHook = async (url, context, next) => {
  if (!data?.strips || !/^file:.*\.m?ts$/.test(url) || url.includes('/node_modules/')) return next(url, context)
  const { transform } = await import('esbuild')
  const path = fileURLToPath(url)
  const options = { loader: 'ts', format: 'esm', target: 'node20', sourcefile: path, sourcemap: 'inline' } as const
  const { code } = await transform(await readFile(path, 'utf8'), { ...options, logLevel: 'silent' })
  return { format: 'module', source: code, shortCircuit: true }
}
