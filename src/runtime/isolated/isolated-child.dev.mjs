// Starts the process from the TypeScript sources (benchmarks): it does not inherit tsx's loader. The build leaves
// this file out, and the built package starts isolated-child.js itself.
import { register } from 'tsx/esm/api'

register()
await import('./isolated-child.ts')
