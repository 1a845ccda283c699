/** `mnc build`: a network with fresh weights from a spec, a family, or either with flags on top. */
import { basename } from 'node:path'
import type { OptionSpec, OptionTable } from '../base/options.ts'
import { pixelOptions } from '../models/define-network.ts'
import { networks } from '../models/index.ts'
import { defineCommand, output } from './define-command.ts'

/** Options of every family as one table, for flags. Defaults and bounds are each family's own, so they are left out. */
function familyFlags(): OptionTable {
  const flags: Record<string, OptionSpec> = {}
  const tables: [string, OptionTable][] = networks.map((n) => [n.family, n.options])
  for (const [family, table] of [...tables, ['', pixelOptions] as const])
    for (const [name, spec] of Object.entries(table)) {
      const { type, description } = spec
      const shared = tables.filter(([, t]) => name in t).length !== 1
      const suggestions = 'enum' in spec ? spec.enum : undefined
      flags[name] = {
        ...{ type, description: shared ? description : `${description} [${family}]` },
        ...(suggestions && { suggestions }),
      }
    }
  return flags
}

export const build = defineCommand({
  name: 'build',
  summary: 'Build a network with fresh weights',
  arguments: [
    {
      name: 'SPEC',
      description: 'A name in models/, a JSON file, or a family',
      values: async () => (await import('../models/spec.ts')).referenceNames(),
    },
  ],
  get options() {
    return { ...familyFlags(), output }
  },
  examples: [
    'mnc build densenet-bc-100-12 -o student.onnx',
    'mnc build densenet-bc --depth 40 --growth 12 -o small.onnx',
  ],
  async run([reference = ''], { output, ...flags }, io) {
    const { buildNetwork, loadSpec } = await import('../models/spec.ts')
    const { writeModel } = await import('../codec/codec.ts')
    const spec = await loadSpec(reference)
    const given = Object.fromEntries(Object.entries(flags).filter(([, v]) => v !== undefined))
    const model = buildNetwork({ ...spec, ...given }, { seed: io.seed })
    const path = String(output ?? `${basename(reference, '.json')}.onnx`)
    await writeModel(model, path)
    io.wrote(path)
  },
})
