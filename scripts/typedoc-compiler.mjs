/** Has TypeDoc find TypeScript 6 as `typescript`: it reads the compiler's interface, which TypeScript 7 does not have. */
import { register } from 'node:module'

export function resolve(name, context, next) {
  return next(name === 'typescript' ? 'typescript-6' : name, context)
}

register(import.meta.url)
