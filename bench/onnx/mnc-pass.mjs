/** One pass through the library, as a program would: what is timed begins when everything is imported. */
import { pass, readModel, writeModel } from '../../dist/index.js'

const [name, from, to] = process.argv.slice(2)
const start = performance.now()
const model = await readModel(from)
await pass(model, name)
await writeModel(model, to)
console.log((performance.now() - start) / 1000)
