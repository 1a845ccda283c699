/**
 * From what `--device` says to an executor:
 *
 *   cpu                            onnxruntime's CPU provider
 *   webgpu | cuda | dml | coreml   another execution provider of onnxruntime
 *   tfjs | tfjs:BACKEND            TensorFlow.js, the best backend that is installed or the one named
 *   auto                           the first of cuda, dml, coreml, webgpu that there is hardware for; else cpu
 *
 * A device whose library or driver is absent is a usage error that names what is missing. Nothing falls back to the CPU
 * unasked.
 */
import { MncError, usageError } from '../../base/errors.ts'
import { nearest } from '../../base/options.ts'
import type { Executor, Fallback } from '../executor.ts'
import { fallbackWarnings } from '../fallback-warnings.ts'
import { type GpuInfo, gpuInfo } from '../gpu-info.ts'
import { ortExecutor } from '../ort/ort.ts'
import { providerExecutor, tryProvider } from '../ort/ort-provider.ts'
import { engineInfo, missingLibrary } from '../ort-session.ts'

/** Execution providers that `--device` names, the fastest first, and what each needs besides the npm package. */
const providers: Readonly<Record<string, string>> = {
  cuda: 'it needs an NVIDIA driver, CUDA 12, cuDNN 9 and the provider: ONNXRUNTIME_NODE_INSTALL=cuda12 npm rebuild --ignore-scripts=false onnxruntime-node',
  dml: 'it needs Windows and a DirectX 12 card',
  coreml: 'it needs macOS',
  webgpu: 'it needs a graphics driver; on Linux a Vulkan driver and its loader libvulkan.so.1',
}

/** The executor of a `--device`; a usage error where it cannot run here. */
export async function openDevice(device: string): Promise<Executor> {
  if (device === 'cpu') return ortExecutor()
  if (device === 'auto') return bestDevice()
  if (device in providers) return openProvider(device)
  const [kind = '', backend] = device.split(':')
  if (kind === 'tfjs') return (await import('../tfjs/tfjs.ts')).tfjsExecutor(backend)
  const known = ['cpu', 'auto', 'tfjs', ...Object.keys(providers)]
  const near = nearest(kind, known)
  throw usageError(
    `unknown --device '${device}'${near ? `, did you mean '${near}'?` : ''}`,
    `choose from ${known.join(', ')}`,
  )
}

/** The same, telling `log` which device it is where that is not the CPU, and what of a graph runs there all the same. */
export async function announceDevice(device: string, log: (line: string) => void) {
  const executor = await openDevice(device)
  if (device !== 'cpu') log(`on ${executor.device.description}`)
  const onFallbacks = (fallbacks: readonly Fallback[]): void => {
    for (const line of fallbackWarnings(fallbacks)) log(line)
  }
  return { executor, onFallbacks }
}

/** Real hardware only: a software renderer is slower than the CPU's own kernels. */
async function bestDevice(): Promise<Executor> {
  const gpu = gpuInfo()
  for (const device of Object.keys(providers)) {
    if (device === 'webgpu' && (gpu === null || gpu.software)) continue
    try {
      return chosen(await openProvider(device))
    } catch (error) {
      if (!(error instanceof MncError)) throw error
    }
  }
  return chosen(ortExecutor())
}

const chosen = (executor: Executor): Executor => ({
  ...executor,
  device: { ...executor.device, description: `${executor.device.description}, chosen by --device auto` },
})

async function openProvider(device: string): Promise<Executor> {
  const { bundled, external, version } = await engineInfo()
  const there = [...bundled, ...external]
  if (!there.includes(device))
    throw usageError(
      `--device ${device}: onnxruntime-node for ${process.platform} ${process.arch} has no such provider`,
      `it has ${there.join(', ')}`,
    )
  const fault = (why: string, cause?: unknown): MncError =>
    new MncError(`--device ${device} does not work here: ${why}`, {
      ...{ code: 'no-device', blame: 'user', next: providers[device], cause },
    })
  const missing = external.includes(device) ? missingLibrary(device) : null
  if (missing) throw fault(`${missing} is not installed`)
  try {
    await tryProvider(device)
  } catch (cause) {
    throw fault(cause instanceof MncError ? cause.message.replace(/^onnxruntime [^:]*: /, '') : String(cause), cause)
  }
  return providerExecutor(device, `onnxruntime ${version} (${device}) on ${nameOf(gpuInfo())}`)
}

function nameOf(gpu: GpuInfo | null): string {
  if (!gpu) return 'an adapter whose name is unknown'
  return gpu.memory === null ? gpu.name : `${gpu.name}, ${(gpu.memory / 1024).toFixed(0)} GiB`
}
