/** What metrics say that compare number with number. */
export const differentLength = (got: ArrayLike<number>, want: ArrayLike<number>): string | undefined =>
  got.length === want.length
    ? undefined
    : `the model returns ${got.length} numbers per sample and ${want.length} are wanted`
