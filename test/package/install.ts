/**
 * The package as a user gets it: packed, and installed offline from npm's cache into an empty project, once for all tests of a
 * file. The project's lock file has the versions of this repository's, so that nothing but their tarballs is asked for.
 */
import { execFileSync, type SpawnSyncReturns, spawnSync } from 'node:child_process'
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { basename, join, resolve } from 'node:path'
import { packTo } from '../../scripts/package.ts'

const root = resolve(import.meta.dirname, '../..')

export interface Installed {
  readonly folder: string
  /** What was packed. */
  readonly tarball: string
  /** Of mnc in it. */
  readonly package: string
  /** Runs a program in the project, as its users would. */
  run(program: string, ...args: readonly string[]): SpawnSyncReturns<string>
  remove(): void
}

interface Locked {
  readonly dev?: boolean
  readonly devOptional?: boolean
}

export function installPacked(): Installed {
  const folder = mkdtempSync(join(tmpdir(), 'mnc-installed-'))
  const npm = (cwd: string, ...args: string[]): string =>
    execFileSync('npm', args, { cwd, encoding: 'utf8', stdio: ['ignore', 'pipe', 'pipe'] })
  const tarball = basename(packTo(folder).tarball)
  const own = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8'))
  const lock: { readonly packages: Record<string, Locked> } = JSON.parse(
    readFileSync(join(root, 'package-lock.json'), 'utf8'),
  )
  const project = {
    name: 'project',
    version: '1.0.0',
    private: true,
    type: 'module',
    dependencies: { mnc: `file:${tarball}` },
  }
  const { version, license, bin, engines, dependencies, optionalDependencies, peerDependencies } = own
  const mnc = { version, resolved: `file:${tarball}`, license, bin, engines, dependencies, optionalDependencies }
  const others = Object.entries(lock.packages).flatMap(([path, { dev, devOptional: _, ...entry }]) =>
    path === '' || dev ? [] : [[path, entry] as const],
  )
  const packages = {
    '': project,
    'node_modules/mnc': { ...mnc, peerDependencies, peerDependenciesMeta: own.peerDependenciesMeta },
    ...Object.fromEntries(others),
  }
  writeFileSync(join(folder, 'package.json'), JSON.stringify(project))
  writeFileSync(join(folder, 'package-lock.json'), JSON.stringify({ ...project, lockfileVersion: 3, packages }))
  npm(folder, 'ci', '--offline', '--ignore-scripts', '--no-audit', '--no-fund')
  return {
    folder,
    tarball: join(folder, tarball),
    package: join(folder, 'node_modules/mnc'),
    run: (program, ...args) => spawnSync(program, args, { cwd: folder, encoding: 'utf8' }),
    remove: () => rmSync(folder, { recursive: true, maxRetries: 3 }),
  }
}
