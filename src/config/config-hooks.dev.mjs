// `mnc` is the sources themselves (benchmarks); tsx reads TypeScript. The build leaves this file out.
let library

export const initialize = (data) => {
  library = data.library
}

export const resolve = (specifier, context, next) =>
  specifier === 'mnc' ? { url: library, shortCircuit: true } : next(specifier, context)
