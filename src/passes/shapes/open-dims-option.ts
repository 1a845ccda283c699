/** For passes that need the shapes of a graph whose inputs leave some open. */
export const openDimsOption = {
  batch: { type: 'integer', minimum: 1, default: 1, description: 'Size for symbolic dims of the inputs' },
} as const
