/** `--data random`: the word, and what users must read whenever random inputs (random-inputs.ts) stand in for data. */
export const RANDOM = 'random'

export const randomWarning = (purpose: string): string =>
  `WARNING: ${purpose} RANDOM inputs with the shapes and types of the graph inputs; real data are better`
