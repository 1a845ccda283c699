/** The part of koffi that foreign-library.ts calls: the sources compile where the optional package is not installed. */
declare module 'koffi' {
  type Argument = bigint | number | string | ArrayBufferView | null
  export interface LibraryHandle {
    func(
      name: string,
      result: string,
      parameters: readonly string[],
    ): (...args: readonly Argument[]) => number | bigint | string | null
    /** Its address. */
    symbol(name: string): bigint
  }
  export function load(path: string, options?: { readonly global?: boolean }): LibraryHandle
}
