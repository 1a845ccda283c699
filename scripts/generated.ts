/** The files that are made from declarations: JSON Schemas, the reference of commands and passes, types of options. */

import { flagOf, jsonSchemaOf, type OptionTable } from '../src/base/options.ts'
import type { CommandDef } from '../src/commands/define-command.ts'
import { describeOption } from '../src/commands/flags.ts'
import { commands } from '../src/commands/index.ts'
import { compressOptions } from '../src/compress/compress-options.ts'
import { formOf } from '../src/data/formats/define-format.ts'
import { dataFormats } from '../src/data/formats/index.ts'
import { pixelOptions } from '../src/models/define-network.ts'
import { networks } from '../src/models/index.ts'
import type { PassDef } from '../src/pass-manager/define-pass.ts'
import { passes } from '../src/passes/index.ts'
import { ptqOptions } from '../src/ptq/ptq-options.ts'
import { recipeSchema } from '../src/recipes/recipe.ts'
import { sensitivityOptions } from '../src/sensitivity/sensitivity-options.ts'
import { trainOptions } from '../src/train/train-options.ts'
import { optionTypes, passTypes } from './option-types.ts'

const DRAFT = 'http://json-schema.org/draft-07/schema#'

/** Path in the repository to content. */
export async function generatedFiles(): Promise<ReadonlyMap<string, string>> {
  const json = (value: unknown): string => `${JSON.stringify(value, null, 2)}\n`
  return new Map([
    ['schemas/model.schema.json', json(modelSchema())],
    ['schemas/passes.schema.json', json(passesSchema())],
    ['schemas/recipe.schema.json', json(recipeSchema())],
    ['docs/reference.md', await reference()],
    ['src/passes/pass-options.generated.ts', passTypes(passes)],
    ['src/train/train-options.generated.ts', optionTypes('TrainOptionsInput', 'Options of `train`.', trainOptions)],
    ['src/ptq/ptq-options.generated.ts', optionTypes('PtqOptionsInput', 'Options of `ptq`.', ptqOptions)],
    [
      'src/compress/compress-options.generated.ts',
      optionTypes('CompressOptionsInput', 'Options of `compress`.', compressOptions),
    ],
    [
      'src/sensitivity/sensitivity-options.generated.ts',
      optionTypes('SensitivityOptionsInput', 'Options of `scanSensitivity`.', sensitivityOptions),
    ],
  ])
}

/** A network spec: one alternative a family. */
function modelSchema(): unknown {
  const alternatives = networks.map(({ family, summary, options }) => {
    const schema = jsonSchemaOf({ ...(options as OptionTable), ...pixelOptions })
    const properties = {
      $schema: { type: 'string' },
      family: { const: family },
      description: { type: 'string' },
      ...(schema.properties as object),
    }
    return { title: family, description: summary, ...schema, properties, required: ['family'] }
  })
  return { $schema: DRAFT, title: 'mnc network spec', type: 'object', oneOf: alternatives }
}

/** The options of each pass, under its name. */
function passesSchema(): unknown {
  const definitions = passes.map((p) => [p.name, { description: p.summary, ...jsonSchemaOf(p.options) }])
  return { $schema: DRAFT, title: 'options of the passes of mnc', definitions: Object.fromEntries(definitions) }
}

async function reference(): Promise<string> {
  const parts = ['# Reference', 'Made from the declarations by `npm run generate`; do not edit.', '## Commands']
  for (const c of commands) parts.push(commandSection(c))
  const formats = dataFormats.map((f) => `- \`${formOf(f)}\`: ${f.summary}`)
  parts.push('## Data formats', 'Described in [data.md](data.md).', formats.join('\n'), '## Passes')
  for (const p of passes) parts.push(passSection(p))
  parts.push('## Network families')
  for (const n of networks) parts.push(`### ${n.family}\n\n${n.summary}`, optionList(n.options))
  return `${parts.filter(Boolean).join('\n\n')}\n`
}

function commandSection(c: CommandDef): string {
  const words = c.arguments.map(({ name, optional, isList }) => {
    const word = isList ? `${name}...` : name
    return optional ? `[${word}]` : word
  })
  const usage = ['mnc', c.name, ...words, '[options]'].join(' ')
  const parts = [`### mnc ${c.name}\n\n${sentence(c.summary)}`, `    ${usage}`, optionList(c.options)]
  if (c.examples) parts.push(`Examples:\n\n${c.examples.map((e) => `    ${e}`).join('\n')}`)
  return parts.filter(Boolean).join('\n\n')
}

function passSection(p: PassDef): string {
  const alias = p.alias ? ` (\`mnc pass ${p.alias}\`)` : ''
  const kept = { numerics: 'the outputs', interface: 'inputs and outputs, not their values', nothing: 'nothing' }
  return [`### ${p.name}${alias}\n\n${sentence(p.summary)} Preserves ${kept[p.preserves]}.`, optionList(p.options)]
    .filter(Boolean)
    .join('\n\n')
}

const sentence = (text: string): string => `${text[0]?.toUpperCase()}${text.slice(1)}.`

const optionList = (table: OptionTable): string =>
  Object.entries(table)
    .map(([name, spec]) => `- \`${spec.short ? `-${spec.short}, ` : ''}${flagOf(name)}\`: ${describeOption(spec)}`)
    .join('\n')
