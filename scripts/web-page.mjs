/** Puts the page for browsers together: `node scripts/web-page.mjs [DIR]` (build/web), after `npm run build`. Any web server will do. */
import { copyFileSync, mkdirSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'

const out = process.argv[2] ?? 'build/web'
const engine = dirname(fileURLToPath(import.meta.resolve('onnxruntime-web')))
mkdirSync(out, { recursive: true })
for (const file of ['index.html', 'page.css', 'page.js']) copyFileSync(join('web', file), join(out, file))
copyFileSync('dist/web.js', join(out, 'mnc.js'))
for (const file of ['ort.wasm.min.mjs', 'ort-wasm-simd-threaded.mjs', 'ort-wasm-simd-threaded.wasm'])
  copyFileSync(join(engine, file), join(out, file))
