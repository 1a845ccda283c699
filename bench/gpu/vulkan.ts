/**
 * What WebGPU needs on a bare machine with an NVIDIA card: the Vulkan loader, and a manifest that names the driver. Both
 * may be missing in a container. Environment variables for a child process, empty where the machine has its own.
 */
import { spawnSync } from 'node:child_process'
import { existsSync, readdirSync } from 'node:fs'
import { writeFile } from 'node:fs/promises'
import { join, resolve } from 'node:path'

const MANIFESTS = ['/etc/vulkan/icd.d', '/usr/share/vulkan/icd.d', '/usr/local/share/vulkan/icd.d']
const DRIVER = 'libGLX_nvidia.so.0'
/** Where `make swiftshader` puts a loader. */
const LOADER_FOLDER = resolve('build/swiftshader')

export async function vulkanEnvironment(scratch: string): Promise<Record<string, string>> {
  const libraries = spawnSync('ldconfig', ['-p'], { encoding: 'utf8' }).stdout ?? ''
  const env: Record<string, string> = {}
  if (!libraries.includes('libvulkan.so.1') && existsSync(join(LOADER_FOLDER, 'libvulkan.so.1')))
    env.LD_LIBRARY_PATH = [LOADER_FOLDER, process.env.LD_LIBRARY_PATH].filter(Boolean).join(':')
  const manifest = MANIFESTS.some((d) => existsSync(d) && readdirSync(d).some((f) => f.includes('nvidia')))
  if (!manifest && libraries.includes(DRIVER) && !process.env.VK_ICD_FILENAMES) {
    const path = join(scratch, 'nvidia_icd.json')
    const icd = { file_format_version: '1.0.0', ICD: { library_path: DRIVER, api_version: '1.3.0' } }
    await writeFile(path, JSON.stringify(icd))
    env.VK_ICD_FILENAMES = path
  }
  return env
}
