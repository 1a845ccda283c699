// Writes schemas/augment-policy.schema.json from its declaration in src/data/policy-file.ts.
// Run: node --import tsx scripts/make-augment-schema.mjs
import { writeFileSync } from 'node:fs'
import { augmentPolicySchema } from '../src/data/policy-file.ts'

const to = new URL('../schemas/augment-policy.schema.json', import.meta.url)
writeFileSync(to, `${JSON.stringify(augmentPolicySchema, null, 2)}\n`)
