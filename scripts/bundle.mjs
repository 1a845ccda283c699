/**
 * Bundles the command and the library: an entry each, and pieces that both share and load on demand. Node spends most of a
 * start on finding and opening modules: `mnc pass` on a small model takes 0.11 s so, 0.15 s module by module. The compiler
 * writes the declarations.
 */
import { rmSync } from 'node:fs'
import { build } from 'esbuild'

rmSync('dist/chunks', { recursive: true, force: true })
await build({
  entryPoints: {
    cli: 'src/cli.ts',
    index: 'src/index.ts',
    // the data loader's worker is next to the chunks, where they look for it
    'chunks/loader-worker': 'src/data/loader-worker.ts',
    // so does the process that runs untrusted models
    'chunks/config-hooks': 'src/config/config-hooks.ts',
    'chunks/isolated-child': 'src/runtime/isolated/isolated-child.ts',
    // and the one that unpacks Parquet
    'chunks/parquet-child': 'src/data/readers/parquet-child.ts',
  },
  outdir: 'dist',
  chunkNames: 'chunks/[name]-[hash]',
  bundle: true,
  splitting: true,
  format: 'esm',
  platform: 'node',
  target: 'node20',
  packages: 'external',
  sourcemap: true,
  sourcesContent: false,
  logLevel: 'warning',
})
