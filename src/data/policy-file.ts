/**
 * Reads augmentation policies: JSON files, checked against the schema declared here (schemas/augment-policy.schema.json
 * is its copy for editors). `none` and `standard` are policies too.
 */
import { Ajv } from 'ajv'
import { usageError } from '../base/errors.ts'
import { readTextSync } from '../base/files.ts'
import { packageFile } from '../base/package-files.ts'
import { type AugmentOp, type AugmentPolicy, augmentOps } from './policy.ts'

const probability = { type: 'number', minimum: 0, maximum: 1 }

/** JSON Schema of a policy file. */
export const augmentPolicySchema = {
  $schema: 'http://json-schema.org/draft-07/schema#',
  title: 'mnc augmentation policy',
  type: 'object',
  additionalProperties: false,
  properties: {
    $schema: { type: 'string' },
    name: { type: 'string', description: 'How logs name the policy.' },
    draw: {
      ...{ type: 'integer', minimum: 0, maximum: 10, default: 0 },
      description: 'How many tuples are drawn for each image; a tuple may be drawn twice.',
    },
    tuples: {
      type: 'array',
      description: 'The operations to draw from, each equally likely.',
      items: {
        type: 'object',
        additionalProperties: false,
        required: ['op', 'probability'],
        properties: {
          op: {
            enum: augmentOps,
            description: 'The operation, as the Python Imaging Library performs it, with nearest-pixel sampling.',
          },
          probability: { ...probability, description: 'Probability that a drawn tuple is applied.' },
          level: {
            ...{ type: 'number', minimum: 0, maximum: 10 },
            description:
              'Strength L: shear 0.03 L; translate L pixels; rotate int(3 L) degrees; solarize threshold 256 - int(25.6 L); posterize keeps 4 - int(0.4 L) bits; enhancers (contrast, sharpness, color, brightness) 0.18 L + 0.1, where 1 changes nothing; cutout 2 L pixels. The sign of shear, translate and rotate is drawn. Invert, auto-contrast and equalize have no strength.',
          },
          magnitude: { type: 'number', description: "Strength in the operation's own unit, instead of a level." },
        },
      },
    },
    crop: {
      ...{ type: 'object', additionalProperties: false, required: ['padding'] },
      description: 'Pads with zeros (after normalisation) on all sides and takes a random crop of the original size.',
      properties: { padding: { type: 'integer', minimum: 0, maximum: 64 } },
    },
    flip: { ...probability, default: 0, description: 'Probability that the image is mirrored left to right.' },
    cutout: {
      ...{ type: 'object', additionalProperties: false, required: ['size'] },
      description: 'A square of zeros (after normalisation) around a random pixel, clipped at the edges; applied last.',
      properties: { size: { type: 'integer', minimum: 1 }, probability: { ...probability, default: 1 } },
    },
  },
} as const

/** Operations whose level has no meaning. */
const withoutStrength: ReadonlySet<AugmentOp> = new Set(['invert', 'auto-contrast', 'equalize'])

let compiled: ReturnType<typeof compile> | undefined
const compile = () => new Ajv({ allErrors: true, strict: false }).compile<AugmentPolicy>(augmentPolicySchema)

/** A parsed policy, checked; `where` names it in messages. */
export function parsePolicy(policy: unknown, where: string): AugmentPolicy {
  compiled ??= compile()
  const check = compiled
  if (!check(policy)) {
    const faults = (check.errors ?? []).map((e) => `${e.instancePath || 'the policy'} ${e.message}`)
    throw usageError(`${where}: ${faults.join('; ')}`, 'see schemas/augment-policy.schema.json')
  }
  const tuples = policy.tuples ?? []
  if ((policy.draw ?? 0) > 0 && tuples.length === 0) throw usageError(`${where}: it draws from an empty list of tuples`)
  for (const [i, t] of tuples.entries())
    if (!withoutStrength.has(t.op) && (t.level === undefined) === (t.magnitude === undefined))
      throw usageError(`${where}: /tuples/${i} (${t.op}) needs either a level or a magnitude`)
  return policy
}

const none: AugmentPolicy = { name: 'none' }
const standard: AugmentPolicy = { name: 'standard', crop: { padding: 4 }, flip: 0.5 }
const micronetFile = packageFile('data/policies/micronet.json')

/** What `--augment` takes: none, standard (pad 4, crop, flip), micronet, or the path of a policy file. */
export function loadPolicy(nameOrFile: string): AugmentPolicy {
  if (nameOrFile === 'none') return none
  if (nameOrFile === 'standard') return standard
  const file = nameOrFile === 'micronet' ? micronetFile : nameOrFile
  let policy: unknown
  try {
    policy = JSON.parse(readTextSync(file))
  } catch (cause) {
    throw usageError(
      `augmentation '${nameOrFile}': ${cause instanceof Error ? cause.message : cause}`,
      'give none, standard, micronet, or the path of a policy file',
    )
  }
  return parsePolicy(policy, file)
}
