/** The package as it is published names the repository that it was packed in, and packing leaves the checkout as it was. */
import assert from 'node:assert/strict'
import { execFileSync, spawnSync } from 'node:child_process'
import { cpSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import test, { after } from 'node:test'
import { packTo, webAddress } from '../../scripts/package.ts'

const scratch = mkdtempSync(join(tmpdir(), 'mnc-package-test-'))
after(() => rmSync(scratch, { recursive: true }))

test('addresses of git hosts, and what is none', () => {
  for (const [remote, web] of [
    ['https://example.org/owner/name.git', 'https://example.org/owner/name'],
    ['https://example.org/owner/name/', 'https://example.org/owner/name'],
    ['https://user:secret@example.org:8443/owner/name', 'https://example.org/owner/name'],
    ['git@example.org:owner/name.git', 'https://example.org/owner/name'],
    ['ssh://git@example.org:2222/owner/name.git', 'https://example.org/owner/name'],
    ['https://git.example.org/group/sub/name.git', 'https://git.example.org/group/sub/name'],
    ...['', '/srv/name', '../name', 'file:///srv/name', 'C:/srv/name', 'http://example.org/owner/name'].map(
      (s) => [s, null] as const,
    ),
    ...['https://127.0.0.1/owner/name', 'git@localhost:owner/name', 'https://example.org/name', 'host:owner/name'].map(
      (s) => [s, null] as const,
    ),
    ['https://example.org/owner/na me', null],
  ] as const)
    assert.equal(webAddress(remote), web, remote)
})

/** A checkout of the repository's own package.json, with what it takes to be packed. */
function checkout(name: string, origin: string | null, change = (own: object): object => own): string {
  const at = join(scratch, name)
  mkdirSync(join(at, 'dist'), { recursive: true })
  writeFileSync(join(at, 'dist/cli.js'), '')
  cpSync('README.md', join(at, 'README.md'))
  const own = JSON.parse(readFileSync('package.json', 'utf8'))
  writeFileSync(join(at, 'package.json'), `${JSON.stringify(change(own), null, 2)}\n`)
  const git = (...args: string[]) => execFileSync('git', ['-C', at, ...args])
  git('init', '-q')
  if (origin !== null) git('remote', 'add', 'origin', origin)
  return at
}

function packedIn(at: string): Record<string, unknown> {
  const before = readFileSync(join(at, 'package.json'))
  const { tarball } = packTo(join(at, 'build'), at)
  assert.deepEqual(readFileSync(join(at, 'package.json')), before)
  return JSON.parse(execFileSync('tar', ['-xzOf', tarball, 'package/package.json'], { encoding: 'utf8' }))
}

test('the package names its repository, and package.json stays, twice', () => {
  const at = checkout('ssh', 'git@example.org:owner/name.git')
  for (let i = 0; i < 2; i++) {
    const { repository, homepage, bugs, ...rest } = packedIn(at)
    assert.deepEqual(repository, { type: 'git', url: 'git+https://example.org/owner/name.git' })
    assert.equal(homepage, 'https://example.org/owner/name#readme')
    assert.deepEqual(bugs, { url: 'https://example.org/owner/name/issues' })
    assert.deepEqual(rest, JSON.parse(readFileSync('package.json', 'utf8')))
  }
})

test('what package.json says itself stays; without an address there is none', () => {
  const own = packedIn(checkout('own', 'https://example.org/o/n', (p) => ({ ...p, homepage: 'https://example.net' })))
  assert.equal(own.homepage, 'https://example.net')
  assert.deepEqual(own.bugs, { url: 'https://example.org/o/n/issues' })
  for (const origin of [null, '/srv/somewhere']) {
    const { repository, homepage, bugs } = packedIn(checkout(`none${origin?.length}`, origin))
    assert.deepEqual([repository, homepage, bugs], [undefined, undefined, undefined])
  }
})

test('packing that fails leaves package.json as it was', () => {
  const at = checkout('broken', 'https://example.org/o/n')
  writeFileSync(join(at, 'taken'), '')
  const before = readFileSync(join(at, 'package.json'))
  assert.throws(() => packTo(join(at, 'taken'), at))
  assert.deepEqual(readFileSync(join(at, 'package.json')), before)
})

test('the folder itself is not published', () => {
  const { status, stdout } = spawnSync('npm', ['run', 'prepublishOnly'], { encoding: 'utf8' })
  assert.notEqual(status, 0)
  assert.match(stdout, /make package/)
})
