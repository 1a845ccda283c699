/** The onnxsim package on a file, with all that it does by default (BatchNormalization is fused by it too). */
import { readFile, writeFile } from 'node:fs/promises'
import { simplify } from 'onnxsim'

const start = performance.now()
const { model } = await simplify(await readFile(process.argv[2]))
await writeFile(process.argv[3], model)
console.log(`work ${(performance.now() - start) / 1000}`)
