/**
 * Bundles the command over the compiler's dist/cli.js, in pieces that are loaded when a command needs them. Node spends most
 * of the start of a command on finding and opening modules: `mnc pass` on a small model takes 0.11 s so, 0.15 s without.
 * The library stays as the compiler writes it.
 */
import { rmSync } from 'node:fs'
import { build } from 'esbuild'

rmSync('dist/cli', { recursive: true, force: true })
await build({
  // the worker of data loading lies beside the pieces, where they look for it
  entryPoints: { cli: 'src/cli.ts', 'cli/loader-worker': 'src/data/loader-worker.ts' },
  outdir: 'dist',
  chunkNames: 'cli/[name]-[hash]',
  bundle: true,
  splitting: true,
  format: 'esm',
  platform: 'node',
  target: 'node20',
  packages: 'external',
  logLevel: 'warning',
})
