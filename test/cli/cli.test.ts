/** Whole command lines, some in a process of their own: exit codes, streams, and files that are there or not. */
import assert from 'node:assert/strict'
import { type ChildProcess, execFile, spawn } from 'node:child_process'
import { closeSync, existsSync, mkdtempSync, openSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import test, { after } from 'node:test'
import { runCommandLine } from '../../src/commands/program.ts'
import { cli } from '../support/compiled.ts'
import { Sink } from './sink.ts'

const folder = mkdtempSync(join(tmpdir(), 'mnc-cli-'))
after(() => rmSync(folder, { recursive: true }))
const at = (name: string): string => join(folder, name)

interface Outcome {
  readonly code: number
  readonly stdout: string
  readonly stderr: string
}

const mnc = (...args: readonly string[]): Promise<Outcome> =>
  new Promise((done) => {
    execFile(process.execPath, [cli, ...args], (error, stdout, stderr) => {
      done({ code: error ? Number(error.code) : 0, stdout, stderr })
    })
  })

test('build, prune and info through files; the same seed gives the same bytes', async () => {
  const flags = ['densenet-bc', '--depth', '10', '--growth', '4', '--size', '8', '--seed', '5']
  const built = await mnc('build', ...flags, '-o', at('a.onnx'))
  assert.deepEqual(built, { code: 0, stdout: `${at('a.onnx')}\n`, stderr: '' })
  await inProcess(['build', ...flags, '-o', at('b.onnx')])
  assert.ok(readFileSync(at('a.onnx')).equals(readFileSync(at('b.onnx'))))

  const pruned = await inProcess(['pass', 'prune', at('a.onnx'), '--sparsity', '0.75', '--json'])
  assert.equal(pruned.code, 0, pruned.stderr)
  const result = JSON.parse(pruned.stdout)
  assert.equal(result.output, at('a.prune.onnx'))
  assert.equal(result.changed, true)

  const info = JSON.parse((await inProcess(['info', at('a.prune.onnx'), '--json'])).stdout)
  const convs = info.layers.filter((l: { op: string }) => l.op === 'Conv')
  const total = (f: (l: { weights: number; sparsity: number }) => number): number =>
    convs.reduce((n: number, l: { weights: number; sparsity: number }) => n + f(l), 0)
  const share = total((l) => l.weights * l.sparsity) / total((l) => l.weights)
  assert.ok(Math.abs(share - 0.75) < 0.001, `${share}`)
})

const refusals: readonly [name: string, args: readonly string[], message: RegExp][] = [
  ['an unknown command', ['bild', 'lenet'], /unknown command 'bild'\s+\(Did you mean build\?\)/],
  ['an unknown flag', ['build', 'lenet', '-o', at('x.onnx'), '--clases', '3'], /Did you mean --classes\?/],
  [
    'an unknown pass',
    ['pass', 'prun', at('a.onnx'), '--sparsity', '0.5'],
    /unknown pass 'prun', did you mean 'prune'\?/,
  ],
  ['a number out of range', ['pass', 'prune', at('a.onnx'), '--sparsity', '1.5', '-o', at('x.onnx')], /--sparsity/],
  ['no number', ['build', 'lenet', '--classes', 'ten', '-o', at('x.onnx')], /--classes must be integer/],
  [
    'a file of per-layer settings that is none',
    ['pass', 'prune', at('a.onnx'), '--layer-sparsity', '@package-lock.txt', '-o', at('x.onnx')],
    /--layer-sparsity @package-lock.txt: .*no such file/,
  ],
  ['a truncated file', ['pass', 'prune', at('cut.onnx'), '-o', at('x.onnx')], /cut\.onnx: .*truncated/],
  [
    'a file that is not a model',
    ['convert', 'package.json', '-o', at('x.onnx')],
    /package\.json: this is not an ONNX model/,
  ],
  ['a missing file', ['info', at('none.onnx')], /none\.onnx: cannot be read: no such file/],
]

test('full and closed streams: the exit code tells, no stack is shown', async () => {
  const ended = (child: ChildProcess) => new Promise<number | null>((done) => child.on('close', done))
  if (existsSync('/dev/full')) {
    const full = openSync('/dev/full', 'w')
    const child = spawn(process.execPath, [cli, 'info', at('a.onnx'), '--json'], {
      stdio: ['ignore', full, 'pipe'],
    })
    let said = ''
    child.stderr!.on('data', (chunk) => {
      said += chunk
    })
    assert.equal(await ended(child), 2)
    assert.match(said, /^mnc: standard output cannot be written: ENOSPC.*\n$/)
    closeSync(full)
  }
  const child = spawn(process.execPath, [cli, 'info', at('none.onnx')], { stdio: ['ignore', 'ignore', 'pipe'] })
  child.stderr!.destroy()
  assert.equal(await ended(child), 2)
})

test('an interrupt ends a command (130 to a shell), with no output', async () => {
  const child = spawn(process.execPath, [cli, 'convert', '-', '-o', at('never.onnx')])
  const ended = new Promise<NodeJS.Signals | null>((done) => child.on('close', (_, signal) => done(signal)))
  // more than a pipe holds: once that is written the command reads, and waits for the rest
  await new Promise((done) => child.stdin.write(Buffer.alloc(2 ** 20), done))
  child.kill('SIGINT')
  assert.equal(await ended, 'SIGINT')
  assert.ok(!existsSync(at('never.onnx')))
})

/** The same command line in this process. */
async function inProcess(args: readonly string[]): Promise<Outcome> {
  const [stdout, stderr] = [new Sink(), new Sink()]
  const code = await runCommandLine(args, { stdout, stderr })
  return { code, stdout: stdout.text, stderr: stderr.text }
}

test('per-layer settings come from a file of mnc sensitivity, or from one of plain numbers', async () => {
  const sparsityOf = async (file: object): Promise<number> => {
    writeFileSync(at('settings.json'), JSON.stringify(file))
    const flags = ['--only', 'stem', '--layer-sparsity', `@${at('settings.json')}`, '-o', at('set.onnx')]
    const { code, stderr } = await inProcess(['pass', 'prune', at('a.onnx'), ...flags])
    assert.equal(code, 0, stderr)
    const info = JSON.parse((await inProcess(['info', at('set.onnx'), '--json'])).stdout)
    return info.layers.find((l: { name: string }) => l.name === 'stem').sparsity
  }
  assert.equal(await sparsityOf({ settings: { 'layer-sparsity': { stem: 0.25 } } }), 0.25)
  assert.equal(await sparsityOf({ stem: 0.5 }), 0.5)
  rmSync(at('settings.json'))
  rmSync(at('set.onnx'))
})

test('bad input: one message on stderr, exit 2, nothing on stdout, no output file', async () => {
  writeFileSync(at('cut.onnx'), readFileSync(at('a.onnx')).subarray(0, 5000))
  const before = readdirSync(folder)
  for (const [name, args, message] of refusals) {
    const { code, stdout, stderr } = await inProcess(args)
    assert.match(stderr, message, name)
    assert.doesNotMatch(stderr, /\n\s+at /, `${name}: a stack`)
    assert.deepEqual({ code, stdout }, { code: 2, stdout: '' }, name)
  }
  const { code, stdout } = await mnc('info', at('none.onnx')) // the process says so too
  assert.deepEqual({ code, stdout }, { code: 2, stdout: '' })
  assert.deepEqual(readdirSync(folder), before)
})
