/**
 * Each write, rename, opened file and message to a loader thread fails once (support/fail-once.mjs): the command ends within
 * seconds and reports it, files that existed are intact, and nothing is left behind. A few of the calls here, all of them
 * with MNC_ALL_FAULTS=1.
 */
import assert from 'node:assert/strict'
import { type ChildProcess, execFileSync, spawn } from 'node:child_process'
import { cpSync, existsSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import test from 'node:test'
import { Rng } from '../../src/base/rng.ts'
import { png } from '../support/data-files.ts'

const cli = join(import.meta.dirname, '../../dist/cli.js')
const preload = join(import.meta.dirname, '../support/fail-once.mjs')
const skip = !existsSync(cli) && 'not built'
const decoder = await import('sharp').catch(() => null)

const CODES = ['ENOSPC', 'EIO', 'EFBIG', 'EPIPE']
const KINDS = ['write', 'rename', 'open', 'message'] as const
type Kind = (typeof KINDS)[number]
/** Of each kind, where not all are tried. */
const TRIED = 2
const LIMIT_MS = 60_000

const trainFlags = [
  '--data',
  'embedded',
  '--limit',
  '100',
  '--batch',
  '16',
  '--val-fraction',
  '0.2',
  '--max-steps',
  '4',
]

const recipe = {
  name: 'small',
  data: 'embedded',
  defaults: { eval: { limit: 50 }, train: { limit: 100, batch: 16, 'max-steps': 2 } },
  stages: [
    { name: 'net', build: 'lenet', train: {} },
    { name: 'small', from: 'net', passes: [{ quantize: { limit: 16 } }], train: {} },
    { name: 'packed', from: 'small', export: { format: 'packed' }, check: [{ limit: 50 }] },
  ],
}

interface Command {
  readonly name: string
  readonly args: readonly string[]
  /** Files that have to be as before or as after an undisturbed run. */
  readonly outputs: readonly string[]
}

const commands: readonly Command[] = [
  {
    name: 'train',
    args: [
      ...['train', 'net.onnx', ...trainFlags, '--checkpoint-steps', '2', '--workers', '1', '-o', 'out.onnx'],
      ...['--log', 'log.jsonl', '--tensorboard', 'board', '--profile', 'profile.json'],
    ],
    outputs: ['out.onnx'],
  },
  { name: 'run', args: ['run', 'recipe.json', '--workdir', 'work'], outputs: [] },
  { name: 'export', args: ['export', 'rounded.onnx', '-o', 'out.onnx'], outputs: ['out.onnx'] },
  {
    name: 'convert',
    args: ['convert', 'net.onnx', '--external-data', '-o', 'apart.onnx'],
    outputs: ['apart.onnx', 'apart.onnx.data'],
  },
  {
    name: 'eval',
    args: ['eval', 'net.onnx', '--data', 'folder:pictures', '--data-cache', 'kept'],
    outputs: [],
  },
  { name: 'report', args: ['report', 'done', '-o', 'page.html'], outputs: ['page.html'] },
]

/** Everything that the commands read, and older outputs that they replace. */
function prepare(): string {
  const folder = mkdtempSync(join(tmpdir(), 'mnc-faults-'))
  const run = (...args: string[]): unknown =>
    execFileSync(process.execPath, [cli, ...args], { cwd: folder, stdio: 'pipe' })
  writeFileSync(join(folder, 'recipe.json'), JSON.stringify(recipe))
  run('build', 'lenet', '-o', 'net.onnx')
  run('build', 'lenet', '-o', 'out.onnx', '--seed', '5')
  run('convert', 'out.onnx', '--external-data', '-o', 'apart.onnx')
  run('pass', 'quantize', 'net.onnx', '--data', 'embedded', '--limit', '16', '-o', 'rounded.onnx')
  run('run', 'recipe.json', '--workdir', 'done')
  writeFileSync(join(folder, 'page.html'), 'old')
  for (let i = 0; i < 10; i++) {
    mkdirSync(join(folder, `pictures/${i}`), { recursive: true })
    writeFileSync(join(folder, `pictures/${i}/0.png`), png(32, 30, 1, new Uint8Array(960).fill(i)))
  }
  return folder
}

interface Ended {
  readonly code: number | null
  readonly stderr: string
}

function start(folder: string, args: readonly string[], env: Record<string, string>): Promise<Ended> {
  const child: ChildProcess = spawn(process.execPath, ['--import', preload, cli, ...args], {
    ...{ cwd: folder, timeout: LIMIT_MS, killSignal: 'SIGKILL', stdio: ['ignore', 'ignore', 'pipe'] },
    env: { ...process.env, MNC_CACHE: 'off', ...env },
  })
  let stderr = ''
  child.stderr!.on('data', (text) => {
    stderr += text
  })
  return new Promise((done) => child.on('close', (code) => done({ code, stderr })))
}

const contents = (folder: string, name: string): string | null =>
  existsSync(join(folder, name)) ? readFileSync(join(folder, name)).toString('base64') : null

const leftovers = (folder: string): string[] =>
  readdirSync(folder, { recursive: true })
    .map(String)
    .filter((name) => /(^|\/)\.|\.tmp$/.test(name))

for (const { name, args, outputs } of commands)
  test(`${name}: whatever write fails, it ends and harms nothing`, {
    skip: skip || (name === 'eval' && !decoder && 'the optional decoder sharp is not installed'),
  }, async (t) => {
    const origin = prepare()
    try {
      const clean = mkdtempSync(join(tmpdir(), 'mnc-faults-'))
      cpSync(origin, clean, { recursive: true })
      const whole = await start(clean, args, { MNC_FAIL_COUNTS: join(clean, 'counts') })
      assert.equal(whole.code, 0, whole.stderr)
      const counts = JSON.parse(readFileSync(join(clean, 'counts'), 'utf8')) as Record<Kind, number>
      const rng = new Rng(1)
      const cases = KINDS.flatMap((kind) => {
        const all = Array.from({ length: counts[kind] }, (_, n) => ({ kind, n }))
        return process.env.MNC_ALL_FAULTS ? all : rng.shuffle(all).slice(0, TRIED)
      })
      assert.ok(cases.length > 0)
      t.diagnostic(`${JSON.stringify(counts)}, ${cases.length} tried`)
      for (const [i, { kind, n }] of cases.entries()) {
        const code = CODES[i % CODES.length]!
        const what = `${name}, ${kind} ${n}, ${code}`
        const folder = mkdtempSync(join(tmpdir(), 'mnc-faults-'))
        cpSync(origin, folder, { recursive: true })
        const ended = await start(folder, args, { MNC_FAIL: `${kind}:${n}:${code}` })
        assert.equal(ended.code, 2, `${what}: exit ${ended.code}, ${ended.stderr}`)
        assert.doesNotMatch(ended.stderr, /bug in mnc/, what)
        assert.deepEqual(leftovers(folder), [], what)
        const before = outputs.map((file) => contents(origin, file))
        const after = outputs.map((file) => contents(clean, file))
        const now = outputs.map((file) => contents(folder, file))
        assert.ok(
          now.join() === before.join() || now.join() === after.join(),
          `${what}: neither the old nor the new file`,
        )
        if (name === 'run') {
          const again = await start(folder, args, {})
          assert.equal(again.code, 0, `${what}, run again: ${again.stderr}`)
          for (const { name: stage } of recipe.stages)
            assert.equal(contents(folder, `work/${stage}.onnx`), contents(clean, `work/${stage}.onnx`), what)
        }
        rmSync(folder, { recursive: true })
      }
      rmSync(clean, { recursive: true })
    } finally {
      rmSync(origin, { recursive: true })
    }
  })
