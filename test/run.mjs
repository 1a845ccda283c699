// Runs every *.test.ts under test/ (or the files named, and all in the folders named) in node's test runner and ends with one plain line of counts.
import { spawn } from 'node:child_process'
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, statSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { compile, compiledOf } from './compile.mjs'

const here = dirname(fileURLToPath(import.meta.url))
const named = process.argv.slice(2).filter((a) => !a.startsWith('--'))
const flags = process.argv.slice(2).filter((a) => a.startsWith('--'))
const testsIn = (folder) =>
  readdirSync(folder, { recursive: true })
    .map(String)
    .filter((f) => f.endsWith('.test.ts'))
    .sort()
    .map((f) => join(folder, f))
const isFolder = (path) => statSync(path, { throwIfNoEntry: false })?.isDirectory() ?? false
const files = (named.length > 0 ? named : [here]).flatMap((path) => (isFolder(path) ? testsIn(path) : [path]))
if (files.length === 0) {
  console.error(`there is no *.test.ts in ${named.join(', ')}`)
  process.exit(1)
}

// a software Vulkan driver that `make swiftshader` fetched, unless the machine has its own
const driver = join(here, '..', 'build', 'swiftshader')
const vulkan =
  existsSync(join(driver, 'libvulkan.so.1')) && !process.env.VK_ICD_FILENAMES
    ? { VK_ICD_FILENAMES: join(driver, 'vk_swiftshader_icd.json'), LD_LIBRARY_PATH: driver }
    : {}

await compile(files)
const scratch = mkdtempSync(join(tmpdir(), 'mnc-test-'))
const tap = join(scratch, 'counts.json')
const child = spawn(
  process.execPath,
  [
    ...['--enable-source-maps', '--test', '--test-concurrency=2'],
    ...['--test-reporter=spec', '--test-reporter-destination=stdout'],
    ...[`--test-reporter=${join(here, 'count-reporter.mjs')}`, `--test-reporter-destination=${tap}`],
    ...flags,
    ...files.map(compiledOf),
  ],
  { stdio: 'inherit', env: { ...process.env, ...vulkan, NO_COLOR: '1', MNC_CACHE: 'off', MNC_NATIVE: '0' } },
)
child.on('close', (code) => {
  const { passed, failed, skipped } = JSON.parse(readFileSync(tap, 'utf8'))
  rmSync(scratch, { recursive: true })
  console.log(`\n${passed} passed, ${failed} failed, ${skipped} skipped`)
  process.exitCode = code === 0 && failed === 0 && passed > 0 ? 0 : 1
})
