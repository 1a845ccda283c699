/** Every target, in the order of help and documents. A new one is a file and a line here; behind them the user's own. */
import { usageError } from '../../base/errors.ts'
import { Registry } from '../../base/registry.ts'
import { cpu } from './cpu.ts'
import { fp16 } from './fp16.ts'
import { openvino } from './openvino.ts'
import { opset13 } from './opset13.ts'
import { size } from './size.ts'
import type { TargetDef } from './target.ts'
import { tensorrt } from './tensorrt.ts'
import { web } from './web.ts'
import { weightOnly } from './weight-only.ts'

const builtIn: readonly TargetDef[] = [size, cpu, opset13, openvino, tensorrt, web, fp16, weightOnly]

export const targetRegistry = new Registry('target', builtIn, (t) => [t.name])
/** Every target that there is, the configuration's own too. */
export const targets = targetRegistry.all
export const targetNames = targetRegistry.names

/** A usage error for other names. */
export function targetOf(name: string): TargetDef {
  const found = targets.find((t) => t.name === name)
  if (found) return found
  throw usageError(`there is no target '${name}'`, `choose from ${targetNames.join(', ')}`)
}
