/** Which layers a pass works on: options that pruning, quantising and measuring share. */
import { optionTable } from '../base/options.ts'

export const layerOptions = optionTable({
  ops: {
    type: 'strings',
    default: ['Conv'],
    description: 'Operator types to treat, e.g. Conv,Gemm',
    placeholder: 'OPS',
    suggestions: async () => (await import('../ops/index.ts')).weightOps,
  },
  only: { type: 'strings', description: 'Treat only layers with these names (globs)', placeholder: 'NAMES' },
  exclude: { type: 'strings', description: 'Leave layers with these names alone (globs)', placeholder: 'NAMES' },
})
