/**
 * Shares: fractions that people also write in percent. 0.01 and '1%' are the same; a bare number of 1 or more might be
 * meant either way, and is refused with both ways to write it. Options of the types share, shares and shareMap take them.
 */

/** What an option table says about a share. */
export interface ShareSpec {
  readonly type: 'share' | 'shares' | 'shareMap'
  readonly description: string
  readonly default?: number
  /** The smallest share; without it a share may be negative. */
  readonly minimum?: 0
  /** Less than all of it. */
  readonly below?: true
}

/** Up to 100 %, or up to less than that. */
function percentPattern({ minimum, below }: Pick<ShareSpec, 'minimum' | 'below'>): RegExp {
  const sign = minimum === undefined ? '-?' : ''
  return below ? new RegExp(`^${sign}\\d{1,2}(\\.\\d+)?%$`) : new RegExp(`^${sign}(100(\\.0+)?|\\d{1,2}(\\.\\d+)?)%$`)
}

const ANY_PERCENT = percentPattern({})

/** '1%' as 0.01, alone, in a list or by name; anything else as it is. */
export function toShares(x: unknown): unknown {
  if (typeof x === 'string' && ANY_PERCENT.test(x)) return Number((Number(x.slice(0, -1)) / 100).toPrecision(15))
  if (Array.isArray(x)) return x.map(toShares)
  if (typeof x === 'object' && x !== null)
    return Object.fromEntries(Object.entries(x).map(([k, v]) => [k, toShares(v)]))
  return x
}

/** What is wrong with a share as it was written. */
export function shareFaults(x: unknown, spec: Pick<ShareSpec, 'minimum' | 'below'>): string[] {
  const { minimum, below } = spec
  if (typeof x === 'string') return percentPattern(spec).test(x) ? [] : [`a share such as 0.01 or 1%${range(spec)}`]
  if (typeof x !== 'number' || !Number.isFinite(x)) return ['a share such as 0.01 or 1%']
  if (x >= 1) return [bareFault(x, below === true)]
  return minimum !== undefined && x < minimum ? [`>= ${minimum}`] : []
}

const range = ({ minimum, below }: Pick<ShareSpec, 'minimum' | 'below'>): string =>
  `, ${minimum === undefined ? '' : 'from 0 '}${below ? 'to less than' : 'up to'} 100%`

/** 1 may be all of it, or one percent. */
function bareFault(x: number, below: boolean): string {
  const whole = x === 1 && !below ? '; all of it is 100%' : ''
  return x <= 100
    ? `a share below 1, or in percent: ${x} percent is written ${Number((x / 100).toPrecision(6))} or ${x}%${whole}`
    : 'a share such as 0.01 or 1%'
}

/** JSON Schema of an option of shares. */
export function sharesSchema(spec: ShareSpec): Record<string, unknown> {
  const { type, description, default: otherwise, minimum } = spec
  const bounds = { ...(minimum !== undefined && { minimum }), exclusiveMaximum: 1 }
  const one = { type: ['number', 'string'], ...bounds, pattern: percentPattern(spec).source }
  const rest = { description, ...(otherwise !== undefined && { default: otherwise }) }
  if (type === 'shares') return { type: 'array', items: one, ...rest }
  if (type === 'shareMap') return { type: 'object', additionalProperties: one, ...rest }
  return { ...one, ...rest }
}

/** What is wrong with a JSON value that the schema of a share refused. */
export function writtenShareFault(x: unknown, schema: Readonly<Record<string, unknown>>): string {
  const below = typeof schema.pattern === 'string' && !schema.pattern.includes('100')
  const spec = { ...(schema.minimum === 0 && { minimum: 0 as const }), ...(below && { below: true as const }) }
  return `must be ${shareFaults(x, spec).join('; ')}`
}

/** A share of accuracy as people say it: 0.01 is '1 point'. */
export function points(share: number): string {
  const n = Number((share * 100).toFixed(2))
  return `${n} ${Math.abs(n) === 1 ? 'point' : 'points'}`
}
