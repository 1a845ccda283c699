// Starts the loader thread from the TypeScript sources (benchmarks): threads do not inherit tsx's loader. The
// build leaves this file out, and the built package starts loader-worker.js itself.
import { register } from 'tsx/esm/api'

register()
await import('./loader-worker.ts')
