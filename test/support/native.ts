/** The native kernels where they are built (`make native`), for tests of them: the others run on standard operators. */
import { existsSync } from 'node:fs'
import { type Found, type NativeKernels, nativeKernels } from '../../src/runtime/native/library.ts'

// the test runner turns them off
delete process.env.MNC_NATIVE

export const builtKernels = 'build/native/mnc-step.so'

const found: Found = existsSync(builtKernels)
  ? await nativeKernels()
  : { missing: `${builtKernels} is not there: make native` }

/** For `skip`: why there are none, or false. */
export const noKernels: string | false = 'missing' in found ? found.missing : false

export function kernels(): NativeKernels {
  if ('missing' in found) throw new Error(found.missing)
  return found
}
