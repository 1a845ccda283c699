/** parseOptions against ajv on the JSON Schema of the same table. */
import assert from 'node:assert/strict'
import test from 'node:test'
import { Ajv } from 'ajv'
import fc from 'fast-check'
import { MncError } from '../../src/base/errors.ts'
import { jsonSchemaOf, optionTable, parseOptions } from '../../src/base/options.ts'

const table = optionTable({
  share: { type: 'number', minimum: 0, exclusiveMaximum: 1, description: '' },
  rate: { type: 'number', exclusiveMinimum: 0, maximum: 5, default: 0.5, description: '' },
  count: { type: 'integer', minimum: 1, description: '' },
  loud: { type: 'boolean', default: false, description: '' },
  name: { type: 'string', description: '' },
  kind: { type: 'string', enum: ['a', 'b'], default: 'a', description: '' },
  ops: { type: 'strings', default: ['Conv'], description: '' },
  mean: { type: 'numbers', description: '' },
  layers: { type: 'numberMap', description: '' },
  loss: { type: 'choice', enum: ['a', 'b'], description: '' },
  shapes: { type: 'stringMap', description: '' },
})

test('options are taken and refused as ajv takes and refuses them, with the same defaults', () => {
  const check = new Ajv({ useDefaults: true, allErrors: true, strict: false }).compile(jsonSchemaOf(table))
  const item = fc.oneof(
    fc.double(),
    fc.integer({ min: -2, max: 6 }),
    fc.constantFrom('a', 'b', ''),
    fc.boolean(),
    fc.constant(null),
  )
  const value = fc.oneof(item, fc.array(item, { maxLength: 3 }), fc.dictionary(fc.constantFrom('x', 'y'), item))
  const given = fc.dictionary(fc.constantFrom(...Object.keys(table), 'shar', 'constructor'), value)
  let refused = 0
  fc.assert(
    fc.property(given, (options) => {
      const copy = structuredClone(options)
      const fine = check(copy)
      try {
        assert.deepEqual(parseOptions(table, options, 'test'), copy)
        assert.ok(fine, JSON.stringify(options))
      } catch (error) {
        if (!(error instanceof MncError)) throw error
        refused++
        assert.ok(!fine, `${error.message}: ${JSON.stringify(options)}`)
        const seen = new Set<string>()
        for (const e of check.errors!) {
          const unknown = e.keyword === 'additionalProperties'
          const where = unknown ? String(e.params.additionalProperty) : `--${e.instancePath.split('/')[1]}`
          assert.ok(error.message.includes(where), `${where}: ${error.message}`)
          // of one value ajv says everything, mnc what comes first; of alternatives all at once
          if (e.keyword === 'type' && !e.schemaPath.includes('anyOf') && !seen.has(where))
            assert.ok(error.message.includes(e.message!), e.message)
          seen.add(where)
        }
      }
    }),
    { numRuns: 2000 },
  )
  assert.ok(refused > 100)
})
