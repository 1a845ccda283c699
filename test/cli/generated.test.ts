import assert from 'node:assert/strict'
import { readdirSync, readFileSync } from 'node:fs'
import test from 'node:test'
import { Ajv } from 'ajv'
import { generatedFiles } from '../../scripts/generated.ts'

test('schemas and reference are what the declarations give', async () => {
  for (const [path, content] of await generatedFiles())
    assert.equal(readFileSync(path, 'utf8'), content, `${path} is stale: run make docs`)
})

test('the model schema takes every spec in models/ and refuses a wrong one', () => {
  const schema = JSON.parse(readFileSync('schemas/model.schema.json', 'utf8'))
  const check = new Ajv({ strict: false }).compile(schema)
  let specs = 0
  for (const file of readdirSync('models').filter((f) => f.endsWith('.json'))) {
    const spec = JSON.parse(readFileSync(`models/${file}`, 'utf8'))
    if (!('family' in spec)) continue
    specs++
    assert.ok(check(spec), `${file}: ${JSON.stringify(check.errors)}`)
  }
  assert.ok(specs >= 8)
  assert.ok(!check({ family: 'densenet-bc', depht: 40 }))
})
