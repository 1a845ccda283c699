import assert from 'node:assert/strict'
import {
  chmodSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import test, { type TestContext } from 'node:test'
import { MncError } from '../../src/base/errors.ts'
import { dropTemporaries, openAtomic, readFileBytes, writeFileAtomic } from '../../src/base/files.ts'

function scratch(t: TestContext): string {
  const folder = mkdtempSync(join(tmpdir(), 'mnc-files-'))
  t.after(() => rmSync(folder, { recursive: true }))
  return folder
}

test('a file is replaced whole, keeps its mode, and follows a link', async (t) => {
  const folder = scratch(t)
  const path = join(folder, 'a')
  writeFileSync(path, 'old')
  chmodSync(path, 0o640)
  symlinkSync(path, join(folder, 'link'))
  await writeFileAtomic(join(folder, 'link'), new TextEncoder().encode('new'))
  assert.equal(readFileSync(path, 'utf8'), 'new')
  assert.equal(statSync(path).mode & 0o777, 0o640)
  assert.deepEqual(readdirSync(folder).sort(), ['a', 'link'])
})

test('an aborted file leaves nothing, and the old one as it was', async (t) => {
  const folder = scratch(t)
  writeFileSync(join(folder, 'a'), 'old')
  const file = await openAtomic(join(folder, 'a'))
  await file.handle.writeFile('half')
  assert.equal(readFileSync(join(folder, 'a'), 'utf8'), 'old')
  await file.abort()
  assert.deepEqual(readdirSync(folder), ['a'])
  await writeFileAtomic('/dev/null', 'gone')
})

test('a process that ends takes its half-written files along', async (t) => {
  const folder = scratch(t)
  const file = await openAtomic(join(folder, 'a'))
  file.write(new Uint8Array(10))
  assert.equal(readdirSync(folder).length, 1)
  dropTemporaries()
  assert.deepEqual(readdirSync(folder), [])
  await file.abort()
})

test('what cannot be read or written is a user error naming the file', async (t) => {
  const folder = scratch(t)
  const missing = join(folder, 'no', 'such')
  for (const [run, file] of [
    [() => readFileBytes(missing), missing],
    [() => writeFileAtomic(missing, 'x'), missing],
    [() => readFileBytes(folder), folder],
  ] as const)
    await assert.rejects(run, (e: unknown) => e instanceof MncError && e.blame === 'user' && e.file === file)
})
