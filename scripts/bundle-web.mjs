/**
 * Bundles the library for browsers, dist/web.js: the same code with other files in the place of Node's parts. Modules of Node
 * that have a stand-in in src/web/node are replaced by that; of all others every function says that it is not there in a browser.
 */
import { builtinModules } from 'node:module'
import { resolve } from 'node:path'
import { build } from 'esbuild'

const standIns = { async_hooks: 'async-hooks', crypto: 'crypto' }
const engine = resolve('src/runtime/isolated/engine.ts')

const browser = {
  name: 'browser',
  setup(bundle) {
    bundle.onResolve({ filter: /^node:/ }, ({ path }) => {
      const name = path.slice('node:'.length)
      if (!builtinModules.includes(name)) return null
      const own = standIns[name]
      return own ? { path: resolve(`src/web/node/${own}.ts`) } : { path: name, namespace: 'absent' }
    })
    // packages that only Node.js loads
    bundle.onResolve({ filter: /^[a-z@][^:]*$/ }, ({ path, kind }) =>
      kind === 'entry-point' ? null : { path, namespace: 'absent-package' },
    )
    bundle.onLoad({ filter: /.*/, namespace: 'absent' }, async ({ path }) => {
      const names = Object.keys(await import(`node:${path}`)).filter((n) => /^\w+$/.test(n) && n !== 'default')
      const absent = `const absent = (name) => () => { throw new Error('a browser has no ' + name) }`
      return { contents: [absent, ...names.map((n) => `export const ${n} = absent('${path}.${n}')`)].join('\n') }
    })
    bundle.onLoad({ filter: /.*/, namespace: 'absent-package' }, ({ path }) => ({
      contents: `throw new Error('${path} is not there in a browser')`,
      loader: 'js',
    }))
    bundle.onLoad({ filter: /engine\.ts$/ }, ({ path }) =>
      path === engine
        ? { contents: `export * from '../../web/engine.ts'`, loader: 'ts', resolveDir: resolve('src/runtime/isolated') }
        : null,
    )
  },
}

await build({
  entryPoints: { web: 'src/web/index.ts' },
  outdir: 'dist',
  bundle: true,
  format: 'esm',
  platform: 'neutral',
  target: 'es2022',
  minify: true,
  sourcemap: true,
  sourcesContent: false,
  inject: ['src/web/node/globals.ts'],
  logLevel: 'warning',
  plugins: [browser],
})
