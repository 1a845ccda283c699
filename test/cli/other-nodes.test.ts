/**
 * The built command on other versions of Node.js than this one (`make other-nodes`): a pipeline of every kind of step gives
 * the same bytes. Skipped if they were not fetched.
 */
import assert from 'node:assert/strict'
import { execFileSync } from 'node:child_process'
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import test from 'node:test'

const root = join(import.meta.dirname, '../..')
const cli = join(root, 'dist/cli.js')
const library = join(root, 'dist/index.js')

function otherNodes(): { version: string; binary: string }[] {
  const build = join(root, 'build')
  if (!existsSync(build)) return []
  return readdirSync(build)
    .filter((folder) => folder.startsWith('node-'))
    .map((folder) => ({
      version: folder.slice('node-'.length),
      binary: join(build, folder, 'node_modules', `node-${process.platform}-${process.arch}`, 'bin', 'node'),
    }))
    .filter(({ binary }) => existsSync(binary))
}

const steps = [
  ['build', 'lenet', '-o', 'a.onnx'],
  ['pass', 'prune', '--sparsity', '0.5', 'a.onnx', '-o', 'b.onnx'],
  ['pass', 'quantize', '--data', 'embedded', '--limit', '32', 'b.onnx', '-o', 'c.onnx'],
  ['train', 'c.onnx', '--data', 'embedded', '--max-steps', '3', '--batch', '16', '--workers', '1', '-o', 'd.onnx'],
  ['export', 'd.onnx', '--format', 'packed', '-o', 'e.onnx'],
  ['export', 'd.onnx', '--format', 'int8', '-o', 'f.onnx'],
  ['info', 'e.onnx', '--json'],
  ['check', 'd.onnx', 'e.onnx', '--data', 'embedded', '--limit', '32', '--json'],
]

/** Everything that the steps print and write. */
function pipeline(binary: string): Record<string, string> {
  const folder = mkdtempSync(join(tmpdir(), 'mnc-node-'))
  const run = (args: readonly string[]): string =>
    execFileSync(binary, args, { cwd: folder, encoding: 'utf8', stdio: ['ignore', 'pipe', 'pipe'] })
  try {
    const printed = steps.map((args) => [args.join(' '), run([cli, ...args])])
    const exports = run(['--input-type=module', '-e', `console.log(Object.keys(await import('${library}')).join())`])
    const files = readdirSync(folder).map((f) => [f, readFileSync(join(folder, f)).toString('base64')])
    return Object.fromEntries([...printed, ...files, ['library', exports]])
  } finally {
    rmSync(folder, { recursive: true })
  }
}

const others = otherNodes()
const skip = (others.length === 0 && 'no other Node.js') || (!existsSync(cli) && 'not built')
test('other versions of Node.js give the same bytes', { skip }, (t) => {
  const here = pipeline(process.execPath)
  for (const { version, binary } of others) {
    assert.equal(execFileSync(binary, ['--version'], { encoding: 'utf8' }).trim(), `v${version}`)
    assert.deepEqual(pipeline(binary), here, `Node.js ${version}`)
    t.diagnostic(`Node.js ${version}: same`)
  }
})
