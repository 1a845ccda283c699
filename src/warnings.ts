/** Warnings that several parts give, in one wording. */
import type { Fallback } from './runtime/executor.ts'

export const fallbackWarnings = (fallbacks: readonly Fallback[]): string[] =>
  fallbacks.map(({ op, nodes, reason }) => `WARNING: ${nodes} ${op} run on the CPU: ${reason}`)
