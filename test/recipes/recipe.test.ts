/** Recipes: the same bytes as single commands, what is skipped and what is not, resuming, gates, refusals. */
import assert from 'node:assert/strict'
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import test, { after } from 'node:test'
import { writeModel } from '../../src/codec/codec.ts'
import { Model } from '../../src/graph/model.ts'
import { Tensor } from '../../src/graph/tensor.ts'
import { loadRecipe, parseRecipe } from '../../src/recipes/load.ts'
import { type RunEvent, runRecipe } from '../../src/recipes/run.ts'
import { WorkFolder } from '../../src/recipes/work-folder.ts'
import { mnc } from '../cli/run-mnc.ts'

const folder = mkdtempSync(join(tmpdir(), 'mnc-recipes-'))
after(() => rmSync(folder, { recursive: true }))
const at = (...names: readonly string[]): string => join(folder, ...names)

const train = { 'max-steps': 3, batch: 16, limit: 64, augment: 'none', lr: 0.02 }
const prune = { sparsity: 0.5, ops: ['Conv', 'Gemm'] }
const quantize = { ops: ['Conv', 'Gemm'], limit: 32 }

const stages = {
  dense: { name: 'dense', build: { family: 'densenet-bc', depth: 10, growth: 4, size: 28, channels: 1 }, train: {} },
  small: {
    ...{ name: 'small', from: 'dense', teacher: 'dense', score: true },
    ...{
      passes: [{ prune }, { quantize }],
      train: { loss: 'kl' },
      'bn-update': { limit: 32, batch: 16, augment: 'none' },
    },
  },
  packed: { name: 'packed', from: 'small', export: { format: 'packed' }, check: [{ limit: 50, 'max-drop': 0.5 }] },
}
const tiny = {
  ...{ name: 'tiny', data: 'embedded', defaults: { train, eval: { limit: 50 } } },
  stages: Object.values(stages),
}

async function run(recipe: object, workdir: string, more: object = {}) {
  return runRecipe(await parseRecipe(recipe), { workdir: at(workdir), ...more })
}

const statuses = ({ stages }: Awaited<ReturnType<typeof run>>): string[] => stages.map((s) => s.status)
const bytes = (...path: readonly string[]): Buffer => readFileSync(at(...path))

test('a recipe writes the files that single commands write, and its records', async () => {
  const result = await run(tiny, 'a')
  assert.deepEqual(statuses(result), ['made', 'made', 'made'])
  const commands = [
    'build densenet-bc --depth 10 --growth 4 --size 28 --channels 1 -o d0.onnx',
    'train d0.onnx TRAIN -o dense.onnx --log dense.jsonl',
    'pass prune --sparsity 0.5 --ops Conv,Gemm dense.onnx -o s0.onnx',
    'pass quantize --ops Conv,Gemm --limit 32 --data embedded s0.onnx -o s1.onnx',
    'train s1.onnx TRAIN --loss kl --teacher dense.onnx -o s2.onnx',
    'bn-update s2.onnx --data embedded --limit 32 --batch 16 --augment none -o small.onnx',
    'export small.onnx -o packed.onnx',
  ]
  const flags = '--data embedded --max-steps 3 --batch 16 --limit 64 --augment none --lr 0.02'
  for (const line of commands) {
    const words = line.replace('TRAIN', flags).split(' ')
    const { code, err: stderr } = await mnc(...words.map((w) => (/\.(onnx|jsonl)$/.test(w) ? at(w) : w)))
    assert.equal(code, 0, stderr)
  }
  for (const stage of ['dense', 'small', 'packed'])
    assert.ok(bytes('a', `${stage}.onnx`).equals(bytes(`${stage}.onnx`)), `${stage}.onnx differs`)

  const losses = (path: string): number[] =>
    readFileSync(path, 'utf8')
      .trim()
      .split('\n')
      .map((l) => JSON.parse(l))
      .flatMap((e) => ('loss' in e ? [e.loss] : []))
  assert.equal(losses(at('a', 'dense.jsonl')).length, 3)
  assert.deepEqual(losses(at('a', 'dense.jsonl')), losses(at('dense.jsonl')))

  const record = JSON.parse(bytes('a', 'small.json').toString())
  assert.equal(record.status, 'done')
  const { metrics } = record
  assert.equal(metrics.eval.samples, 50)
  assert.ok(metrics.sparsity >= 0.5 && metrics.weightBits === 4 && metrics.activationBits < 32)
  assert.ok(metrics.score.score > 0)
  assert.equal(result.stages[2]?.metrics.activationBits, metrics.activationBits) // of the graph, not of the file's form
  assert.deepEqual(
    readdirSync(at('a')).filter((f) => /checkpoint|best|tmp/.test(f)),
    [],
  )
})

test('stages that are up to date are skipped; only what a change reaches is made again', async () => {
  const before = bytes('a', 'dense.onnx')
  assert.deepEqual(statuses(await run(tiny, 'a')), ['skipped', 'skipped', 'skipped'])

  const remeasured = { ...tiny, defaults: { train, eval: { limit: 40 } } }
  const again = await run(remeasured, 'a')
  assert.deepEqual(statuses(again), ['measured', 'measured', 'measured'])
  assert.equal(again.stages[0]?.metrics.eval?.samples, 40)
  assert.ok(bytes('a', 'dense.onnx').equals(before))

  const workers = { ...tiny, defaults: { train: { ...train, workers: 0 }, eval: { limit: 40 } } }
  assert.deepEqual(statuses(await run(workers, 'a')), ['skipped', 'skipped', 'skipped'])

  const other = { ...tiny, stages: [stages.dense, { ...stages.small, train: { lr: 0.01 } }, stages.packed] }
  assert.deepEqual(statuses(await run({ ...other, defaults: remeasured.defaults }, 'a')), ['skipped', 'made', 'made'])

  rmSync(at('a', 'dense.onnx')) // made again to the same bytes, which the later stages notice
  assert.deepEqual(statuses(await run({ ...other, defaults: remeasured.defaults }, 'a')), [
    'made',
    'skipped',
    'skipped',
  ])
})

test('a damaged file of a stage is made again, whatever the damage; a damaged record too', async () => {
  const recipe = { ...tiny, stages: [{ ...stages.dense, train: undefined, eval: false }] }
  await run(recipe, 'damaged')
  const path = at('damaged', 'dense.onnx')
  const whole = readFileSync(path)
  const flipped = Buffer.from(whole)
  flipped[3] = 0xff
  const damages = [Buffer.alloc(0), whole.subarray(0, 100), Buffer.from('no model'), flipped, Buffer.alloc(5000, 0x0a)]
  for (const [i, damage] of damages.entries()) {
    writeFileSync(path, damage)
    assert.deepEqual(statuses(await run(recipe, 'damaged')), ['made'], `damage ${i}`)
    assert.ok(readFileSync(path).equals(whole), `damage ${i}`)
  }
  for (const text of ['', '{', '[]', '{"key": 1}', 'null']) {
    writeFileSync(at('damaged', 'dense.json'), text)
    assert.deepEqual(statuses(await run(recipe, 'damaged')), ['made'], text)
  }
  assert.deepEqual(statuses(await run(recipe, 'damaged')), ['skipped'])
})

test('names that lead elsewhere are refused, and a work folder that is a file is named', async () => {
  for (const name of ['../../x', 'a/b', '..', '.hidden', '/tmp/x', 'a\\\\b', ''])
    await assert.rejects(parseRecipe({ ...tiny, name }), { code: 'bad-usage', blame: 'user' }, name)
  writeFileSync(at('file'), '')
  writeFileSync(at('named.json'), JSON.stringify(tiny))
  for (const workdir of [at('file'), at('file', 'below')]) {
    const { code, err: stderr } = await mnc('run', at('named.json'), '--workdir', workdir)
    assert.equal(code, 2, stderr)
    assert.ok(stderr.includes(at('file')), stderr)
  }
})

test('--until and --from: a part of the stages', async () => {
  const short = { name: 'small', from: 'dense', passes: [{ prune }] }
  const recipe = { ...tiny, stages: [{ ...stages.dense, train: undefined }, short, stages.packed] }
  assert.deepEqual(statuses(await run(recipe, 'part', { until: 'dense' })), ['made'])
  await assert.rejects(run(recipe, 'part', { from: 'packed' }), { blame: 'user', message: /needs .*small\.onnx/ })
  assert.deepEqual(statuses(await run(recipe, 'part', { from: 'small', until: 'small' })), ['made'])
  const unknown = /no stage 'smal', did you mean 'small'/
  await assert.rejects(run(recipe, 'part', { from: 'smal' }), { blame: 'user', message: unknown })
  const backwards = { from: 'packed', until: 'dense' }
  await assert.rejects(run(recipe, 'part', backwards), { blame: 'user', message: /comes after/ })
})

test('a run that is interrupted goes on from its checkpoint and gives the same bytes', async () => {
  const recipe = { ...tiny, stages: [stages.dense] }
  const controller = new AbortController()
  const seen: number[] = []
  const watch = (stopAt: number) => (event: RunEvent) => {
    if (event.kind !== 'train' || event.event.kind !== 'step') return
    seen.push(event.event.step)
    if (event.event.step === stopAt) controller.abort()
  }
  const half = run(recipe, 'half', { signal: controller.signal, onEvent: watch(1) })
  await assert.rejects(half, { blame: 'interrupt', message: /after 2 steps/, next: /the same command/ })
  assert.ok(existsSync(at('half', 'dense.checkpoint.onnx')) && !existsSync(at('half', 'dense.onnx')))
  assert.equal(JSON.parse(bytes('half', 'dense.json').toString()).status, 'running')
  await run(recipe, 'half', { onEvent: watch(-1) })
  assert.deepEqual(seen, [0, 1, 2])
  assert.ok(bytes('half', 'dense.onnx').equals(bytes('dense.onnx')))
  const steps = bytes('half', 'dense.jsonl')
    .toString()
    .trim()
    .split('\n')
    .map((l) => JSON.parse(l).step)
  assert.deepEqual(steps, [0, 1, 2, undefined])
})

test('a gate that fails ends the run with exit 3, again when nothing is left to make', async () => {
  const gated = { ...tiny, stages: [{ ...stages.dense, eval: { limit: 50, 'min-accuracy': 0.99 } }, stages.small] }
  writeFileSync(at('gated.json'), JSON.stringify(gated))
  for (const round of [1, 2]) {
    const { code, out: stdout, err: stderr } = await mnc('run', at('gated.json'), '--workdir', at('gated'))
    assert.equal(code, 3, stderr)
    assert.match(stderr, /dense\.onnx: top-1 is .* below min-accuracy 99\.00 %/, `round ${round}`)
    assert.match(stdout, /^stage +top-1 +zero +W bits +A bits +bytes/)
  }
  assert.ok(!existsSync(at('gated', 'small.onnx')))
})

test('--dry-run estimates without making a stage, and writes nothing; data may be missing', async () => {
  writeFileSync(at('tiny.json'), JSON.stringify({ ...tiny, data: 'cifar100:nowhere', stages: longer() }))
  const {
    code,
    out: stdout,
    err: stderr,
  } = await mnc('run', at('tiny.json'), '--workdir', at('dry'), '--dry-run', '--json')
  assert.equal(code, 0, stderr)
  assert.match(stderr, /nowhere.*it is taken to have 50,000 images/)
  const { stages, seconds } = JSON.parse(stdout)
  assert.deepEqual(
    stages.map((s: { training: { steps: number } }) => s.training.steps),
    [312, 1562],
  )
  assert.ok(stages[0].training.secondsPerStep > 0 && seconds > 312 * stages[0].training.secondsPerStep)
  assert.match(stages[1].commands.join('\n'), /^pass prune --sparsity 0\.5 --ops Conv,Gemm$/m)
  assert.ok(!existsSync(at('dry')))
  const missing = await mnc('run', at('tiny.json'), '--workdir', at('dry'))
  assert.equal(missing.code, 2)
  assert.match(missing.err, /nowhere/)
})

function longer(): object[] {
  const build = { family: 'densenet-bc', depth: 10, growth: 4, classes: 100 }
  const epochs = { batch: 32, limit: undefined, 'max-steps': 100_000 }
  return [
    { name: 'dense', build, train: { ...epochs, epochs: 0.2, limit: 50_000 } },
    {
      name: 'small',
      from: 'dense',
      teacher: 'dense',
      passes: [{ prune }],
      train: { ...epochs, epochs: 1, limit: 50_000 },
    },
  ]
}

const { dense, small } = stages
const refusals: readonly [name: string, recipe: object, message: RegExp][] = [
  [
    'an unknown stage',
    [dense, { ...small, from: 'dens' }],
    /stage 'small': there is no stage 'dens', did you mean 'dense'/,
  ],
  ['a later stage', [{ ...small, name: 'a', from: 'dense' }, dense], /stage 'a': 'dense' comes after it/],
  ['itself', [{ ...small, from: 'small' }], /depends on itself: small -> small/],
  [
    'a cycle',
    [
      { ...small, name: 'a', from: 'b' },
      { ...small, name: 'b', from: 'a' },
    ],
    /depends on itself: a -> b -> a/,
  ],
  ['a missing file', [{ ...small, from: 'none.onnx' }], /stage 'small': there is no file 'none\.onnx'/],
  ['two of one name', [dense, dense], /two stages with this name/],
  [
    'a name that its files would share',
    [{ ...dense, name: 'a.best' }],
    /stage 'a\.best': this name is reserved for files of other stages/,
  ],
  ['no source', [{ name: 'a' }], /does not say where its graph comes from/],
  [
    'an unknown option',
    [{ ...dense, train: { epoch: 3 } }],
    /stage 'dense', train: unknown 'epoch', did you mean 'epochs'/,
  ],
  ['an option in camel case', [{ ...dense, train: { maxSteps: 3 } }], /unknown 'maxSteps', did you mean 'max-steps'/],
  ['an unknown pass', [{ ...dense, passes: [{ prun: {} }] }], /passes: unknown 'prun', did you mean 'prune'/],
  [
    'a number out of range',
    [{ ...dense, passes: [{ prune: { sparsity: 2 } }] }],
    /prune, sparsity: must be .*2 percent is written 0.02 or 2%/,
  ],
  ['an unknown spec', [{ name: 'a', build: 'lenett' }], /stage 'a': .*did you mean 'lenet'/],
  ['an unknown key', [{ ...dense, trane: {} }], /stage 'dense': unknown 'trane', did you mean 'train'/],
]

test('everything wrong with a recipe is reported in one message', async () => {
  for (const [name, list, message] of refusals)
    await assert.rejects(parseRecipe({ ...tiny, stages: list }), { blame: 'user', message }, name)
  await assert.rejects(parseRecipe({ name: 'x', stages: [dense] }), { blame: 'user', message: /train need data/ })
  await assert.rejects(parseRecipe([]), { blame: 'user', message: /must be object/ })
  await assert.rejects(loadRecipe('quickstrt'), { blame: 'user', message: /did you mean 'quickstart'/ })
  writeFileSync(at('bad.json'), '{')
  await assert.rejects(loadRecipe(at('bad.json')), { blame: 'user', message: /not valid JSON/ })
})

test('the recipes in models/ are sound', async () => {
  for (const name of ['quickstart', 'micronet-cifar100', 'micronet-cifar100-short']) {
    const recipe = await loadRecipe(name)
    assert.equal(recipe.name, name)
    assert.ok(recipe.stages.length >= 8)
  }
})

test("a model's key covers the files that its tensors lie in", async () => {
  const path = at('outside.onnx')
  const model = new Model()
  const b = model.graph.append()
  const weight = (value: number): Tensor => Tensor.float32([512], new Float32Array(512).fill(value))
  const w = b.initializer('w', weight(1))
  model.graph.addOutput(b.op('Mul', [model.graph.addInput('x', { elem: 'float32', dims: [512] }), w]))
  const keys: string[] = []
  for (const value of [1, 1, 2]) {
    w.setConstant(weight(value))
    await writeModel(model, path, { externalData: true })
    keys.push(await new WorkFolder(at('keys')).hashOf(path))
  }
  assert.equal(keys[0], keys[1])
  assert.notEqual(keys[1], keys[2])
})

/** A network whose normalisation is in training mode. */
async function trainingNetwork(path: string): Promise<void> {
  const model = new Model()
  const { graph } = model
  const b = graph.append()
  const filled = (name: string, dims: readonly number[], f: (i: number) => number) => {
    const size = dims.reduce((p, d) => p * d, 1)
    return b.initializer(
      name,
      Tensor.float32(
        dims,
        Float32Array.from({ length: size }, (_, i) => f(i)),
      ),
    )
  }
  let x = graph.addInput('x', { elem: 'float32', dims: ['N', 1, 28, 28] })
  x = b.op('Conv', [x, filled('w', [4, 1, 3, 3], (i) => Math.sin(i))], {}, { name: 'layer' })
  const [scale, variance] = ['scale', 'variance'].map((name) => filled(name, [4], () => 1))
  const [shift, mean] = ['shift', 'mean'].map((name) => filled(name, [4], () => 0))
  x = b.ops('BatchNormalization', [x, scale!, shift!, mean!, variance!], 3, { training_mode: 1 }, { name: 'norm' })[0]!
  x = b.op('Flatten', [b.op('GlobalAveragePool', [b.op('Relu', [x])])])
  x = b.op('Gemm', [x, filled('v', [4, 10], (i) => Math.cos(i))], {}, { name: 'y' })
  graph.addOutput(x)
  await writeModel(model, path)
}

test('a warning about a model is shown once in a run, whatever is done to it, and for each model', async () => {
  const heard: string[] = []
  const onEvent = (e: RunEvent): void => {
    if (e.kind === 'log') heard.push(e.message)
    if (e.kind === 'train' && e.event.kind === 'start') heard.push(...e.event.warnings)
  }
  for (const name of ['first.onnx', 'second.onnx']) await trainingNetwork(at(name))
  const passes = [{ prune }, { quantize }]
  const recipe = {
    ...{ name: 'warned', data: 'embedded', defaults: { train, eval: { limit: 8 } } },
    stages: [
      { name: 'a', from: at('first.onnx'), passes: [{ prune }, { freeze: { ops: ['Gemm'] } }], train: {} },
      { name: 'b', from: 'a', passes, 'bn-update': { limit: 16, batch: 8, augment: 'none' } },
      { name: 'c', from: 'b', export: { format: 'int8', 'allow-larger': true } },
      { name: 'd', from: at('second.onnx'), passes },
    ],
  }
  const warnings = (): string[] => heard.filter((line) => /in training mode/.test(line))
  await run(recipe, 'warned', { onEvent })
  assert.equal(warnings().length, 2, heard.join('\n'))
  // another run says it again
  await run({ ...recipe, seed: 9 }, 'warned', { onEvent })
  assert.equal(warnings().length, 4, heard.join('\n'))
})
