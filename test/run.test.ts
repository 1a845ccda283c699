/** The runner of the tests: files, folders, and folders without tests. */
import assert from 'node:assert/strict'
import { spawnSync } from 'node:child_process'
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { test } from 'node:test'
import { fileURLToPath } from 'node:url'

const runner = fileURLToPath(new URL('run.mjs', import.meta.url))
/** A folder of the tree that nothing else looks into. */
const build = join(dirname(runner), '..', 'build')

test('a folder stands for the test files in it, and one without any fails', (t) => {
  const folder = mkdtempSync(join(build, 'runner-'))
  t.after(() => rmSync(folder, { recursive: true }))
  mkdirSync(join(folder, 'a', 'deep'), { recursive: true })
  mkdirSync(join(folder, 'none'))
  const file = (name: string, body: string): void =>
    writeFileSync(join(folder, name), `import { test } from 'node:test'\n${body}\n`)
  file('a/one.test.ts', "test('one', () => {})")
  file('a/deep/two.test.ts', "test('two', () => {}); test('three', () => { throw 1 })")
  file('a/helper.ts', "test('no test file', () => {})")
  file('other.test.ts', "test('elsewhere', () => {})")
  // a runner inside a test reports to it unless told that it is none
  const { NODE_TEST_CONTEXT: _, ...env } = process.env
  const run = (...paths: string[]) => {
    const { status, stdout } = spawnSync(process.execPath, [runner, ...paths.map((p) => join(folder, p))], {
      encoding: 'utf8',
      env,
    })
    return { status, counts: stdout.trim().split('\n').at(-1) }
  }
  assert.deepEqual(run('a'), { status: 1, counts: '2 passed, 1 failed, 0 skipped' })
  assert.deepEqual(run('other.test.ts', 'a/one.test.ts'), { status: 0, counts: '2 passed, 0 failed, 0 skipped' })
  assert.equal(run('none').status, 1)
})
