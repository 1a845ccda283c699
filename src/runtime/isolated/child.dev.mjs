// Starts the process, and the thread that watches it, from the TypeScript sources (tests, benchmarks): neither inherits
// tsx's loader. The build leaves this file out, and the built package starts isolated-child.js itself.
import { register } from 'tsx/esm/api'

register()
await import('./child.ts')
