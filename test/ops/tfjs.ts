/**
 * TensorFlow.js with gradients, on its CPU backend. The package's build for Node.js has no gradients registered, and the
 * code that registers them is written for bundlers; so the parts are bundled when this module is loaded (about a second).
 */
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { createRequire } from 'node:module'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { buildSync } from 'esbuild'

const entry = `
export * from '@tensorflow/tfjs-core'
import '@tensorflow/tfjs-core/dist/register_all_gradients'
import '@tensorflow/tfjs-core/dist/public/chained_ops/register_all_chained_ops'
import '@tensorflow/tfjs-backend-cpu'`

function load(): typeof import('@tensorflow/tfjs-core') {
  const bundle = buildSync({
    stdin: { contents: entry, resolveDir: import.meta.dirname },
    bundle: true,
    format: 'cjs',
    platform: 'node',
    mainFields: ['module', 'main'],
    write: false,
    logLevel: 'error',
  })
  const folder = mkdtempSync(join(tmpdir(), 'mnc-tfjs-'))
  try {
    const file = join(folder, 'tfjs.cjs')
    writeFileSync(file, bundle.outputFiles[0]!.contents)
    return createRequire(import.meta.url)(file)
  } finally {
    rmSync(folder, { recursive: true })
  }
}

export const tf = load()
tf.env().set('IS_TEST', true) // no advertisement on the console
