/** `--device`: the same wherever a graph runs. */
import type { OptionSpec } from '../options.ts'

export const deviceOptions = {
  device: {
    type: 'string',
    default: 'cpu',
    placeholder: 'DEVICE',
    description: 'where graphs run: cpu, webgpu, cuda, dml, coreml, tfjs or tfjs:BACKEND; auto: the quickest there is',
  },
} as const satisfies Record<string, OptionSpec>
