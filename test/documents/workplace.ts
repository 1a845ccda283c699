/** Folders in which documents are carried out by a shell: `mnc` is the built command, and programs import 'mnc'. */
import assert from 'node:assert/strict'
import { spawnSync } from 'node:child_process'
import { chmodSync, mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after } from 'node:test'

export const root = join(import.meta.dirname, '../..')
const scratch = mkdtempSync(join(tmpdir(), 'mnc-documents-'))
after(() => rmSync(scratch, { recursive: true }))

const bin = join(scratch, 'bin')
mkdirSync(bin)
writeFileSync(join(bin, 'mnc'), `#!/bin/sh\nexec '${process.execPath}' '${join(root, 'dist/cli.js')}' "$@"\n`)
chmodSync(join(bin, 'mnc'), 0o755)
mkdirSync(join(scratch, 'node_modules'))
symlinkSync(root, join(scratch, 'node_modules/mnc'))
for (const name of ['onnxruntime-node', 'onnxruntime-web'])
  symlinkSync(join(root, 'node_modules', name), join(scratch, 'node_modules', name))

const env = {
  ...process.env,
  ...{ MNC_CACHE: 'off', MNC_NATIVE: '0', OMPI_ALLOW_RUN_AS_ROOT: '1', OMPI_ALLOW_RUN_AS_ROOT_CONFIRM: '1' },
  PATH: `${bin}:${process.env.PATH}`,
}

export interface Workplace {
  readonly folder: string
  /** Runs a line, which has to succeed; returns what it prints. The home of the user is the folder. */
  shell(line: string): string
}

export function workplace(name: string): Workplace {
  const folder = join(scratch, name.replace(/\W/g, '-'))
  mkdirSync(folder)
  return {
    folder,
    shell(line) {
      const { status, stdout, stderr } = spawnSync('sh', ['-c', line], {
        ...{ cwd: folder, env: { ...env, HOME: folder }, encoding: 'utf8' },
      })
      assert.equal(status, 0, `${line}\n${stdout}${stderr}`)
      return stdout
    },
  }
}
