/** What publint and Are The Types Wrong find in a packed package: `node lint-package.mjs FILE.tgz`, as JSON. */
import { readFileSync } from 'node:fs'
import { checkPackage, createPackageFromTarballData } from '@arethetypeswrong/core'
import { publint } from 'publint'

const tarball = new Uint8Array(readFileSync(process.argv[2]))
const { messages } = await publint({ pack: { tarball: tarball.slice().buffer }, strict: true })
const { types, problems } = await checkPackage(createPackageFromTarballData(tarball))
if (!types) throw new Error('it has no types')
console.log(JSON.stringify({ messages, problems }))
