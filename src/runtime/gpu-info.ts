/** The name of the graphics hardware. onnxruntime does not say which adapter it took, so the system is asked. */
import { spawnSync } from 'node:child_process'
import { basename } from 'node:path'

export interface GpuInfo {
  readonly name: string
  /** MiB, where known. */
  readonly memory: number | null
  /** Renders on the CPU. */
  readonly software: boolean
}

const SOFTWARE = /swiftshader|llvmpipe|lavapipe|softpipe/i

/** The first adapter that the system names; null where it names none. */
export function gpuInfo(): GpuInfo | null {
  return vulkanDriver() ?? nvidia() ?? vulkanInfo()
}

/** A Vulkan driver that the environment picks, by its manifest's file name. */
function vulkanDriver(): GpuInfo | null {
  const manifest = process.env.VK_DRIVER_FILES || process.env.VK_ICD_FILENAMES
  if (!manifest) return null
  const file = basename(manifest, '.json')
  return SOFTWARE.test(file) ? { name: `software renderer ${file}`, memory: null, software: true } : null
}

function nvidia(): GpuInfo | null {
  const text = output('nvidia-smi', ['--query-gpu=name,memory.total', '--format=csv,noheader,nounits'])
  const [name, memory] = text?.split('\n')[0]?.split(', ') ?? []
  return name ? { name, memory: Number(memory) || null, software: false } : null
}

function vulkanInfo(): GpuInfo | null {
  const name = /deviceName\s*=\s*(.+)/.exec(output('vulkaninfo', ['--summary']) ?? '')?.[1]
  return name ? { name, memory: null, software: SOFTWARE.test(name) } : null
}

/** Standard output of a program, null if it does not exist or fails. */
function output(command: string, args: readonly string[]): string | null {
  const { status, stdout } = spawnSync(command, args, { encoding: 'utf8', timeout: 10_000 })
  return status === 0 ? stdout : null
}
