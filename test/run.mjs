// Runs every *.test.ts under test/ (or the files named) in node's test runner and ends with one plain line of counts.
import { spawn } from 'node:child_process'
import { mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'

const here = dirname(fileURLToPath(import.meta.url))
const named = process.argv.slice(2).filter((a) => !a.startsWith('--'))
const flags = process.argv.slice(2).filter((a) => a.startsWith('--'))
const files =
  named.length > 0
    ? named
    : readdirSync(here, { recursive: true })
        .map(String)
        .filter((f) => f.endsWith('.test.ts'))
        .sort()
        .map((f) => join(here, f))

const scratch = mkdtempSync(join(tmpdir(), 'mnc-test-'))
const tap = join(scratch, 'counts.json')
const child = spawn(
  process.execPath,
  [
    ...['--import', 'tsx', '--test', '--test-concurrency=2'],
    ...['--test-reporter=spec', '--test-reporter-destination=stdout'],
    ...[`--test-reporter=${join(here, 'count-reporter.mjs')}`, `--test-reporter-destination=${tap}`],
    ...flags,
    ...files,
  ],
  { stdio: 'inherit', env: { ...process.env, NO_COLOR: '1' } },
)
child.on('close', (code) => {
  const { passed, failed, skipped } = JSON.parse(readFileSync(tap, 'utf8'))
  rmSync(scratch, { recursive: true })
  console.log(`\n${passed} passed, ${failed} failed, ${skipped} skipped`)
  process.exitCode = code === 0 && failed === 0 && passed > 0 ? 0 : 1
})
