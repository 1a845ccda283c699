/** Warnings about operators that a device leaves to the CPU. */
import type { Fallback } from './executor.ts'

export const fallbackWarnings = (fallbacks: readonly Fallback[]): string[] =>
  fallbacks.map(({ op, nodes, reason }) => `WARNING: ${nodes} ${op} run on the CPU: ${reason}`)
