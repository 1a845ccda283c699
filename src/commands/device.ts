/** What commands say about the device they run on. */
import type { Executor, Fallback } from '../runtime/executor.ts'
import type { CommandIO } from './io.ts'

/** The executor of `--device`; a line says which it is, where it is not the CPU. */
export async function deviceFor(device: string, io: CommandIO): Promise<Executor> {
  const { openDevice } = await import('../runtime/device.ts')
  const executor = await openDevice(device)
  if (device !== 'cpu') io.log(`on ${executor.device.description}`)
  return executor
}

export function warnOfFallbacks(fallbacks: readonly Fallback[], io: CommandIO): void {
  for (const { op, nodes, reason } of fallbacks) io.log(`WARNING: ${nodes} ${op} run on the CPU: ${reason}`)
}
