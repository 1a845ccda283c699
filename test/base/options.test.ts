/** parseOptions against ajv on the JSON Schema of the same table. */
import assert from 'node:assert/strict'
import test from 'node:test'
import { Ajv } from 'ajv'
import fc from 'fast-check'
import { MncError } from '../../src/base/errors.ts'
import { jsonSchemaOf, optionTable, parseOptions } from '../../src/base/options.ts'

const table = optionTable({
  factor: { type: 'number', minimum: 0, exclusiveMaximum: 1, description: '' },
  part: { type: 'share', minimum: 0, below: true, description: '' },
  drop: { type: 'share', default: 0.01, description: '' },
  parts: { type: 'shares', minimum: 0, description: '' },
  some: { type: 'shareMap', below: true, description: '' },
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

/** The shares of options that ajv accepts, by hand. */
function inFractions(options: Record<string, unknown>): Record<string, unknown> {
  const fraction = (x: unknown): unknown =>
    typeof x === 'string' ? Number((Number.parseFloat(x) / 100).toPrecision(15)) : x
  const { part, drop, parts, some } = options
  return {
    ...options,
    ...(part !== undefined && { part: fraction(part) }),
    ...(drop !== undefined && { drop: fraction(drop) }),
    ...(Array.isArray(parts) && { parts: parts.map(fraction) }),
    ...(typeof some === 'object' && {
      some: Object.fromEntries(Object.entries(some ?? {}).map(([k, v]) => [k, fraction(v)])),
    }),
  }
}

test('options are taken and refused as ajv takes and refuses them, with the same defaults', () => {
  const check = new Ajv({ useDefaults: true, allErrors: true, strict: false }).compile(jsonSchemaOf(table))
  const item = fc.oneof(
    fc.double(),
    fc.integer({ min: -2, max: 6 }),
    fc.constantFrom('a', 'b', ''),
    fc.constantFrom('1%', '12.5%', '100%', '-3%', '101%', '0.5', '%', '1e1%'),
    fc.boolean(),
    fc.constant(null),
  )
  const value = fc.oneof(item, fc.array(item, { maxLength: 3 }), fc.dictionary(fc.constantFrom('x', 'y'), item))
  const given = fc.dictionary(fc.constantFrom(...Object.keys(table), 'facto', 'constructor'), value)
  let refused = 0
  fc.assert(
    fc.property(given, (options) => {
      const copy = structuredClone(options)
      const fine = check(copy)
      try {
        assert.deepEqual(parseOptions(table, options, 'test'), inFractions(copy))
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
          if (
            e.keyword === 'type' &&
            e.message !== 'must be number,string' &&
            !e.schemaPath.includes('anyOf') &&
            !seen.has(where)
          )
            assert.ok(error.message.includes(e.message!), e.message)
          seen.add(where)
        }
      }
    }),
    { numRuns: 2000 },
  )
  assert.ok(refused > 100)
})

test('a share is written as a fraction or in percent; a bare number of 1 or more is refused with both ways', () => {
  const shares = optionTable({
    drop: { type: 'share', description: '' },
    zero: { type: 'share', minimum: 0, below: true, description: '' },
  })
  assert.deepEqual(parseOptions(shares, { drop: '1%', zero: 0.75 }, 'test'), { drop: 0.01, zero: 0.75 })
  assert.deepEqual(parseOptions(shares, { drop: '100%', zero: '99.5%' }, 'test'), { drop: 1, zero: 0.995 })
  for (const [given, said] of [
    [{ drop: 1 }, /--drop must be a share below 1, or in percent: 1 percent is written 0.01 or 1%; all of it is 100%/],
    [{ drop: 2.5 }, /2.5 percent is written 0.025 or 2.5%/],
    [{ zero: 75 }, /75 percent is written 0.75 or 75%$/],
    [{ zero: '100%' }, /a share such as 0.01 or 1%, from 0 to less than 100%/],
    [{ zero: -0.1 }, />= 0/],
    [{ drop: '5' }, /a share such as/],
  ] as const)
    assert.throws(() => parseOptions(shares, given, 'test'), said)
})
