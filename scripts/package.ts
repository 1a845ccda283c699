/**
 * The package as it is published: `node --import tsx scripts/package.ts [DIR]` (build), after `npm run build`, writes
 * DIR/mnc-VERSION.tgz, for `npm publish DIR/mnc-VERSION.tgz`. Its package.json has `repository`, `homepage` and `bugs` from the address of the git remote
 * `origin`, where that is one on a git host; what package.json says itself stays. They are written into a copy, because npm tells
 * the registry what the folder's package.json says after `postpack`: whatever `prepack` fills in would not be there any more.
 */
import { execFileSync, spawnSync } from 'node:child_process'
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join, resolve } from 'node:path'
import { fileURLToPath } from 'node:url'

const root = resolve(import.meta.dirname, '..')

/** https://HOST/OWNER/NAME of what git calls a remote, without user, password and port; null where it is no address of a git host. */
export function webAddress(remote: string): string | null {
  const [, host, path] =
    /^(?:https|ssh):\/\/(?:[^@/]*@)?([^@:/]+)(?::\d+)?\/(.+)$/.exec(remote) ??
    /^(?:[^@:/\s]+@)([^@:/\s]+):(?!\/)(.+)$/.exec(remote) ??
    []
  const parts =
    path
      ?.replace(/\/+$/, '')
      .replace(/\.git$/, '')
      .split('/') ?? []
  const isHost = host?.includes('.') && !/^[\d.]+$/.test(host)
  return isHost && parts.length >= 2 && parts.every((p) => /^[\w.~-]+$/.test(p))
    ? `https://${host}/${parts.join('/')}`
    : null
}

/** What package.json says of a repository at a web address. */
export const addressesOf = (web: string): Readonly<Record<string, unknown>> => ({
  repository: { type: 'git', url: `git+${web}.git` },
  homepage: `${web}#readme`,
  bugs: { url: `${web}/issues` },
})

const npm = (cwd: string, ...args: readonly string[]): string =>
  execFileSync('npm', args, { cwd, encoding: 'utf8', stdio: ['ignore', 'pipe', 'pipe'] }).trim()

/** Writes the package of a checkout into a folder. */
export function packTo(folder: string, from = root): { readonly tarball: string; readonly web: string | null } {
  const scratch = mkdtempSync(join(tmpdir(), 'mnc-package-'))
  try {
    const plain = npm(from, 'pack', '--ignore-scripts', '--silent', '--pack-destination', scratch)
    execFileSync('tar', ['-xzf', plain], { cwd: scratch })
    const file = join(scratch, 'package/package.json')
    const { stdout } = spawnSync('git', ['remote', 'get-url', 'origin'], { cwd: from, encoding: 'utf8' })
    const web = webAddress((stdout ?? '').trim())
    const own = JSON.parse(readFileSync(file, 'utf8'))
    const missing = Object.entries(web === null ? {} : addressesOf(web)).filter(([key]) => !(key in own))
    writeFileSync(file, `${JSON.stringify({ ...own, ...Object.fromEntries(missing) }, null, 2)}\n`)
    mkdirSync(folder, { recursive: true })
    const name = npm(
      join(scratch, 'package'),
      'pack',
      '--ignore-scripts',
      '--silent',
      '--pack-destination',
      resolve(folder),
    )
    return { tarball: join(folder, name), web }
  } finally {
    rmSync(scratch, { recursive: true })
  }
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  const { tarball, web } = packTo(process.argv[2] ?? 'build')
  console.log(tarball)
  if (web === null) {
    console.error(
      'git remote origin is no https or ssh address of a git host: the package names no repository, homepage and bugs',
    )
  }
}
