/** The part of koffi that mpi-library.ts calls: the sources compile where the optional package is not installed. */
declare module 'koffi' {
  export interface LibraryHandle {
    func(
      name: string,
      result: string,
      parameters: readonly string[],
    ): (...args: readonly (bigint | number | ArrayBufferView | null)[]) => number
    /** Its address. */
    symbol(name: string): bigint
  }
  export function load(path: string, options?: { readonly global?: boolean }): LibraryHandle
}
