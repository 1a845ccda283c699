/** Options of an export as the command line and recipes have them: a target, or a format with its own options. */
import { type OptionsOf, optionTable } from '../../base/options.ts'
import { exportOptions } from '../export-options.ts'
import { targetNames, targets } from './index.ts'

export const targetOptions = optionTable({
  target: {
    type: 'string',
    enum: targetNames,
    get description(): string {
      return `Where the file is to run, in place of a format. ${targets.map((t) => `${t.name}: ${t.summary}`).join('; ')}`
    },
  },
  reader: {
    type: 'string',
    placeholder: 'READER',
    suggestions: async () => (await import('../../analysis/readers.ts')).readerNames,
    description:
      'What is to read the file, e.g. "onnxruntime>=1.24", "openvino" or "opencv": a target picks a form that it takes, INT4 types where they are allowed and gain something; a format that it does not take is refused',
  },
  threads: {
    type: 'numbers',
    description:
      'Target cpu: threads to measure its forms on, 1 by default; 0: one a core. With 1,0 no form is taken that is slower than floats on either',
  },
  batch: {
    type: 'numbers',
    description: 'Target cpu: samples in a run that its forms are measured with, 1 by default, e.g. 1,32',
  },
  ...exportOptions,
})

export type ParsedTargetOptions = OptionsOf<typeof targetOptions>
