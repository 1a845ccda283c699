/**
 * What a configuration may import: `mnc` is this very package, wherever it is installed, and TypeScript is read by stripping
 * its types (esbuild), unless Node.js does that itself (22.18 and later).
 */
import { register } from 'node:module'

let isPrepared = false

/** Installs the hooks, once. From the sources tsx reads TypeScript. */
export function prepareImports(): void {
  if (isPrepared) return
  isPrepared = true
  const isSource = import.meta.url.endsWith('.ts')
  const library = new URL(isSource ? '../index.ts' : '../index.js', import.meta.url).href
  const hooks = isSource ? './config-hooks.dev.mjs' : './config-hooks.js'
  register(hooks, import.meta.url, {
    data: { library, strips: !isSource && !Reflect.get(process.features, 'typescript') },
  })
}
