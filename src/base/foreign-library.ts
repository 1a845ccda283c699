/**
 * Functions of shared libraries, called in this process. Only this file knows koffi, an optional package, so that Node's own
 * interface can replace it.
 */

/** Typed arrays are passed as their memory, which a function may read and write. */
export type Argument = bigint | number | string | ArrayBufferView | null

export interface ForeignLibrary {
  /** Types as in C; `str` is text. */
  func(name: string, result: string, parameters: readonly string[]): (...args: readonly Argument[]) => Argument
  /** The address of a symbol. */
  symbol(name: string): bigint
}

/** Opens libraries; throws where the package is not installed. `global`: others find its symbols. */
export async function foreignLibraries(): Promise<
  (path: string, options?: { readonly global?: boolean }) => ForeignLibrary
> {
  const koffi = await import('koffi')
  return (path, options = {}) => koffi.load(path, options)
}
