/** Notes which paths are opened for reading while `work` runs, below the functions of Node.js that the sources use. */
import fs from 'node:fs'
import { syncBuiltinESMExports } from 'node:module'
import { resolve } from 'node:path'

const opened = new Set<string>()
let watching = false

function watch(owner: object, name: string): void {
  const original: unknown = Reflect.get(owner, name)
  if (typeof original !== 'function') throw new Error(`there is no function ${name}`)
  Reflect.set(owner, name, function (this: unknown, ...args: unknown[]): unknown {
    const writes = typeof args[1] === 'string' && /^[wax]/.test(args[1])
    if (watching && typeof args[0] === 'string' && !writes) opened.add(resolve(args[0]))
    return Reflect.apply(original, this, args)
  })
}
for (const name of ['openSync', 'readFileSync', 'readdirSync', 'createReadStream']) watch(fs, name)
for (const name of ['open', 'readFile', 'readdir']) watch(fs.promises, name)
syncBuiltinESMExports()

/** The result, and the absolute paths that were opened. */
export async function watchReads<T>(
  work: () => Promise<T>,
): Promise<{ readonly result: T; readonly opened: ReadonlySet<string> }> {
  opened.clear()
  watching = true
  try {
    return { result: await work(), opened: new Set(opened) }
  } finally {
    watching = false
  }
}
