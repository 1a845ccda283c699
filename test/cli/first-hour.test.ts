/** What a new user types and sees: short names of passes, narrow terminals, failures as JSON, wrong models and data. */
import assert from 'node:assert/strict'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import test, { after } from 'node:test'
import { runCommandLine } from '../../src/commands/program.ts'
import { formatDuration, Progress } from '../../src/commands/progress.ts'
import { npy, npz } from '../support/data-files.ts'
import { Sink } from './sink.ts'

const folder = mkdtempSync(join(tmpdir(), 'mnc-first-hour-'))
after(() => rmSync(folder, { recursive: true }))
const at = (name: string): string => join(folder, name)

class Terminal extends Sink {
  readonly isTTY = true
  readonly columns: number
  constructor(columns: number) {
    super()
    this.columns = columns
  }
}

async function mnc(args: readonly string[], [stdout, stderr]: [Sink, Sink] = [new Sink(), new Sink()]) {
  const exit = await runCommandLine(args, { stdout, stderr })
  return { exit, out: stdout.text, err: stderr.text }
}

const lenet = at('lenet.onnx')
test.before(async () => void (await mnc(['build', 'lenet', '-o', lenet])))

test('a pass is a command: the same bytes as mnc pass NAME; a slip names the nearest', async () => {
  const { readFileSync } = await import('node:fs')
  const flags = ['--sparsity', '0.5', '--ops', 'Conv']
  for (const [words, out] of [
    [['pass', 'prune'], at('a.onnx')],
    [['prune'], at('b.onnx')],
    [['--seed', '0', 'insert-prune-mask'], at('c.onnx')],
  ] as const)
    assert.equal((await mnc([...words, ...flags, lenet, '-o', out])).exit, 0)
  assert.deepEqual(readFileSync(at('a.onnx')), readFileSync(at('b.onnx')))
  assert.deepEqual(readFileSync(at('a.onnx')), readFileSync(at('c.onnx')))
  const slip = await mnc(['prunne', lenet])
  assert.equal(slip.exit, 2)
  assert.match(slip.err, /unknown command 'prunne'\s+\(Did you mean prune\?\)/)
  assert.match((await mnc(['help', 'prune'])).out, /^Usage: mnc prune\|insert-prune-mask \[options\] <MODEL>/)
})

test('the list of passes: what users call, then what commands run for them', async () => {
  const [own = '', inner = ''] = (await mnc(['pass', '--list'])).out.split('run by train')
  assert.match(own, /^to call:\n/)
  assert.match(own, /\n {2}prune +Prune weights by magnitude.*\(insert-prune-mask\)\n/)
  assert.match(inner, /\n {2}autodiff /)
  assert.doesNotMatch(own, /autodiff/)
})

for (const columns of [40, 80])
  test(`help, lists and tables fit ${columns} columns, and break between words only`, async () => {
    const metrics = ['--metric', 'per-class,confusion']
    const measured = ['eval', lenet, '--data', 'embedded', '--limit', '20', ...metrics]
    const commands = [['--help'], ['pass', '--list'], ['info', lenet], ['score', lenet], ['train', '--help']]
    for (const args of [
      ...commands,
      ['prune', '--help'],
      ['check', lenet, lenet, '--limit', '2'],
      ['doctor'],
      measured,
    ]) {
      const screen = new Terminal(columns)
      const { exit, out } = await mnc(args, [screen, new Terminal(columns)])
      const plain = await mnc(args)
      assert.equal(exit, 0, `${args.join(' ')}: ${plain.err}`)
      const words = new Set(plain.out.split(/[\s,]+/))
      for (const line of out.split('\n'))
        assert.ok(line.length <= columns || !line.trim().includes(' '), `${args.join(' ')}: ${line.length}: ${line}`)
      if (/^(info|pass|eval)/.test(args[0]!))
        // whole numbers may be speeds
        for (const word of out.split(/[\s,]+/).filter((w) => !/^\d+$/.test(w)))
          assert.ok(words.has(word), `${args.join(' ')}: '${word}' is torn`)
    }
  })

test('a bar fits the terminal and keeps the time left', () => {
  for (const columns of [30, 40, 80, 200]) {
    const screen = new Terminal(columns)
    const bar = new Progress('train', 1000, screen)
    bar.update(500, 'epoch 3  loss 1.2345  top-1 45.3 %  1234 img/s')
    const line = screen.text.split('\x1b[K')[1]!
    assert.ok(line.length < columns, `${columns}: ${line}`)
    assert.match(line, /500\/1000/)
    assert.match(line, /s left$/)
  }
})

test('a share of one job is shown in percent', () => {
  const screen = new Terminal(40)
  new Progress('bench', 1, screen).update(0.05835753399999999)
  assert.match(screen.text, /bench .* 6 % {2}\d+ s left$/)
})

test('durations in days and hours', () => {
  assert.deepEqual([7.4, 200, 7500, 90_000, 86_400 * 12].map(formatDuration), [
    ...['7 s', '3 min 20 s', '2 h 5 min', '1 d 1 h', '12 d 0 h'],
  ])
})

test('--json: one document on stdout on failure too, next to the message', async () => {
  for (const [args, code] of [
    [['info', at('absent.onnx')], /./],
    [['info', lenet, '--nothing'], /^bad-usage$/],
    [['prunne'], /^bad-usage$/],
    [['help', 'prunne'], /^bad-usage$/],
    [['help', '--seed', '3', 'nothing'], /^bad-usage$/],
    [['prune', lenet, '--sparsity', '7'], /^bad-usage$/],
  ] as const) {
    const { exit, out, err } = await mnc(['--json', ...args])
    assert.equal(exit, 2)
    const { error } = JSON.parse(out)
    assert.match(error.code, code)
    assert.equal(error.exit, 2)
    assert.ok(err.replace(/\s+/g, ' ').includes(error.message.split('\n')[0]), `${err} says ${error.message}`)
  }
  const none = await mnc(['--json'])
  assert.deepEqual([none.exit, JSON.parse(none.out).error.message], [2, 'no command is given'])
  assert.match(none.err, /^Usage: mnc/)
  const asked = await mnc(['help', 'prunne'])
  assert.deepEqual([asked.out, asked.err], ['', "mnc: unknown command 'prunne', did you mean 'prune'?\n"])
  const gate = await mnc(['--json', 'eval', lenet, '--data', 'embedded', '--limit', '10', '--min-accuracy', '99.9%'])
  assert.equal(gate.exit, 3)
  assert.equal(JSON.parse(gate.out).samples, 10)
})

test('what cannot work says so in one message', async () => {
  const quantised = at('quantised.onnx')
  const exported = at('exported.onnx')
  const data = ['--data', 'embedded', '--limit', '16']
  const quantize = (...more: string[]): Promise<{ exit: number; err: string }> => mnc(['quantize', ...data, ...more])
  assert.equal((await quantize('--ops', 'Conv,Gemm', lenet, '-o', quantised)).exit, 0)
  assert.equal((await mnc(['export', quantised, '--format', 'packed', '-o', exported])).exit, 0)
  const again = await quantize('--ops', 'Conv,Gemm', quantised, '-o', at('twice.onnx'))
  assert.match(again.err, /already quantised as asked; for other widths start from the float model/)
  const wider = await quantize('--weight-bits', '8', quantised, '-o', at('twice.onnx'))
  assert.equal(wider.exit, 2)
  assert.match(wider.err, /does not quantise twice/)
  for (const words of [['quantize'], ['ptq'], ['compress', '--no-labels']]) {
    const rounded = await mnc([...words, exported, ...data, '-o', at('rounded-twice.onnx')])
    assert.equal(rounded.exit, 2)
    assert.equal(
      rounded.err,
      'mnc: the model is an export (packed), which is quantised already (start from the float model; mnc does not quantise twice)\n',
    )
  }
  const steps = ['--data', 'embedded', '--limit', '64', '--batch', '32', '--max-steps']
  const trained = await mnc(['train', exported, ...steps, '1', '-o', at('t.onnx')])
  assert.equal(trained.exit, 2)
  assert.match(trained.err, /^mnc: the model is an export \(packed\).*train the graph that it was exported from/)
  const short = await mnc(['train', lenet, ...steps, '50', '-o', at('t.onnx')])
  assert.equal(short.exit, 0, short.err)
  assert.match(short.err, /--epochs 1 ends the run after 2 steps, before --max-steps 50/)
  const colour = at('colour.onnx')
  assert.equal((await mnc(['build', 'resnet', '--size', '28', '-o', colour])).exit, 0)
  const grey = await mnc(['eval', colour, '--data', 'embedded', '--limit', '4'])
  assert.equal(grey.exit, 2)
  assert.match(grey.err, /embedded#test has images with 1 channel\(s\), but input 'input' takes 3/)
  assert.match(grey.err, /--replicate-grey repeats them into every channel/)
  const pixels = npy(new Uint8Array(2 * 28 * 28 * 3).fill(9), [2, 28, 28, 3])
  writeFileSync(at('colours.npz'), npz({ images: pixels, labels: npy(Int32Array.of(0, 9), [2]) }))
  const colours = await mnc(['eval', lenet, '--data', `npz:${at('colours.npz')}`])
  assert.equal(colours.exit, 2)
  assert.match(colours.err, /has images with 3 channel\(s\), but input 'input' takes 1/)
  for (const more of [[], data]) {
    const others = await mnc(['check', lenet, colour, ...more])
    assert.equal(others.exit, 2)
    assert.match(
      others.err,
      /the models take different inputs: 'input' float32\[N,1,28,28\] and 'input' float32\[N,3,28,28\] \(check a model against/,
    )
  }
  const percent = await mnc(['eval', lenet, '--data', 'embedded', '--min-accuracy', '90'])
  assert.equal(percent.exit, 2)
  assert.match(percent.err, /90 percent is written 0\.9 or 90%/)
})

test('a dry run of a long recipe says what it would do at once; --resume is what a run does', async () => {
  const before = process.cpuUsage()
  const dry = await mnc([
    'run',
    'micronet-cifar100',
    '--resume',
    '--dry-run',
    '--data',
    'cifar100:nowhere',
    '--workdir',
    at('w'),
  ])
  assert.equal(dry.exit, 0, dry.err)
  const { user, system } = process.cpuUsage(before)
  // 2 s on a quiet machine; it took minutes when it timed steps
  assert.ok(user + system < 6e6, `${(user + system) / 1e6} s of processor time`)
  assert.match(dry.out, /^teacher {2}from densenet-bc-172-30 {2}about .* d .* h \(not made yet\)\n/)
  assert.match(dry.out, /\nin all about \d+ d \d+ h on this machine/)
  assert.match(dry.err, /nowhere.*it is taken to have 50,000 images/)
})
