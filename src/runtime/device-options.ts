/** `--device` and `--threads`: the same wherever a graph runs. */
import type { OptionSpec } from '../base/options.ts'

/** What completion offers for `--device`. */
export const deviceNames = ['cpu', 'webgpu', 'cuda', 'dml', 'coreml', 'tfjs', 'auto'] as const

export const deviceOptions = {
  device: {
    type: 'string',
    default: 'cpu',
    placeholder: 'DEVICE',
    suggestions: deviceNames,
    description: 'Where graphs run: cpu, webgpu, cuda, dml, coreml, tfjs or tfjs:BACKEND; auto: the fastest available',
  },
} as const satisfies Record<string, OptionSpec>

/** More than any machine on which onnxruntime is fast has; it starts all of them. */
const MOST_THREADS = 128

export const threadsOption = {
  type: 'integer',
  minimum: 0,
  maximum: MOST_THREADS,
  default: 0,
  description: 'Threads of the engine; 0: one per core',
} as const satisfies OptionSpec
