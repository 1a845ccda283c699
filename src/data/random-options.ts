import type { SampleSet } from './array-set.ts'

/** `--data random`: the keyword, and the warning that users must see whenever random inputs (random-inputs.ts) stand in for data. */
export const RANDOM = 'random'

/** The data that passes and training accept. */
export type TrainingData = SampleSet | typeof RANDOM

export const randomWarning = (purpose: string): string =>
  `WARNING: ${purpose} RANDOM inputs with the shapes and types of the graph inputs; real data are better`
