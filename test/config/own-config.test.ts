/** The user's own passes, data sets, losses, metrics, targets and networks, from a configuration in TypeScript, in the built command. */
import assert from 'node:assert/strict'
import { spawnSync } from 'node:child_process'
import { existsSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join, resolve } from 'node:path'
import test, { after } from 'node:test'
import * as ort from 'onnxruntime-node'
import { MncError } from '../../src/base/errors.ts'
import { readModel } from '../../src/codec/codec.ts'
import { printModel } from '../../src/codec/text.ts'
import { defineConfig, useConfig } from '../../src/config/config.ts'
import { findConfig } from '../../src/config/find.ts'
import { parseRecipe } from '../../src/recipes/load.ts'

const folder = mkdtempSync(join(tmpdir(), 'mnc-config-'))
after(() => rmSync(folder, { recursive: true }))
const at = (name: string): string => join(folder, name)
const cli = resolve('dist/cli.js')

function mnc(cwd: string, ...args: string[]) {
  const { status, stdout, stderr } = spawnSync(process.execPath, [cli, ...args], { cwd, encoding: 'utf8' })
  return { exit: status, out: stdout, err: stderr }
}

writeFileSync(
  at('round-to.ts'),
  `import { definePass } from 'mnc'
export const roundTo = definePass({
  name: 'rename-graph',
  summary: 'Give the graph another name',
  options: { to: { type: 'string', default: 'own', description: 'The name' } },
  preserves: 'numerics',
  run(model, { to }) {
    const changed: boolean = model.metadata.get('graph') !== to
    model.metadata.set('graph', to)
    return changed
  },
})
`,
)
writeFileSync(
  at('mnc.config.ts'),
  `import { defineConfig, defineDataset, defineLoss, defineMetric, defineNetwork, defineTarget, Tensor } from 'mnc'
import { roundTo } from './round-to.ts'

const waves = defineDataset({
  name: 'waves',
  summary: 'sine waves of two frequencies',
  open(_place: string, split: 'train' | 'test') {
    const n: number = split === 'train' ? 64 : 32
    const labels = Array.from({ length: n }, (_, i) => i % 2)
    const x = labels.flatMap((label, i) => Array.from({ length: 16 }, (_, t) => Math.sin((t + i) * (label ? 2 : 0.5))))
    return { input: Tensor.float32([n, 1, 4, 4], x), labels: Tensor.int64([n], labels) }
  },
})
const logCosh = defineLoss({
  name: 'log-cosh',
  summary: 'log cosh of the difference',
  emit: (b, s, t) => b.op('ReduceMean', [b.op('Log', [b.op('Cosh', [b.op('Sub', [s, t])])])], { keepdims: 0 }),
})
const tiny = defineNetwork({
  family: 'tiny',
  summary: 'one linear layer',
  options: { classes: { type: 'integer', default: 2, description: 'Classes' } },
  build: ({ classes }, net) =>
    net.output(net.linear(net.flatten(net.input({ channels: 1, size: 4 }), 'flat'), 'fc', classes, 'logits')),
})
const mostWrong = defineMetric({
  name: 'most-wrong',
  summary: 'largest error of an output',
  better: 'lower',
  against: 'values',
  start: () => {
    let most = 0
    return {
      add({ got, want }) {
        for (let i = 0; i < got.length; i++) most = Math.max(most, Math.abs(got[i]! - want[i]!))
        return undefined
      },
      result: () => ({ value: most }),
    }
  },
})
const board = defineTarget({
  name: 'board',
  summary: 'the board on our desk',
  pick: 'first',
  aim: 'bytes',
  quantised: true,
  readers: ['onnxruntime>=1.24'],
  forms: [{ options: { format: 'int4', shortNames: true }, because: 'its flash is small' }],
})
const [passes, datasets, losses, networks] = [[roundTo], [waves], [logCosh], [tiny]]
export default defineConfig({ passes, datasets, losses, networks, metrics: [mostWrong], targets: [board] })
`,
)

test('what a configuration defines is built, listed, run, trained and evaluated like what is built in', async () => {
  assert.equal(mnc(folder, 'build', 'tiny', '--classes', '2', '-o', 'tiny.onnx').exit, 0)
  assert.match(mnc(folder, 'pass', '--list').out, /\n {2}rename-graph +Give the graph another name/)
  // found from the model, whatever the folder
  const renamed = mnc(tmpdir(), 'rename-graph', at('tiny.onnx'), '--to', 'mine')
  assert.equal(renamed.exit, 0, renamed.err)
  assert.equal((await readModel(at('tiny.rename-graph.onnx'))).metadata.get('graph'), 'mine')
  assert.match(mnc(folder, 'eval', '--help').out, /embedded,\s+waves/)
  assert.match(mnc(folder, 'train', '--help').out, /l1,\s+log-cosh/)
  const evaluated = mnc(folder, '--json', 'eval', 'tiny.onnx', '--data', 'waves')
  assert.equal(JSON.parse(evaluated.out).samples, 32)
  const recipe = {
    name: 'own',
    data: 'waves',
    stages: [
      { name: 'teacher', build: { family: 'tiny' }, seed: 1 },
      { name: 'student', build: 'tiny', passes: [{ 'rename-graph': { to: 'x' } }], teacher: 'teacher' },
    ].map((s, i) =>
      i === 0 ? s : { ...s, train: { loss: 'log-cosh', epochs: 20, batch: 16, optimizer: 'adamw', lr: 0.05 } },
    ),
  }
  writeFileSync(at('own.json'), JSON.stringify(recipe))
  const ran = mnc(folder, 'run', 'own.json')
  assert.equal(ran.exit, 0, ran.err)
  // the student has become the teacher: what the loss asks for
  const checked = mnc(folder, '--json', 'check', 'build/own/teacher.onnx', 'build/own/student.onnx', '--data', 'waves')
  const before = mnc(folder, '--json', 'check', 'build/own/teacher.onnx', 'tiny.onnx', '--data', 'waves')
  const error = ({ out }: { out: string }): number => JSON.parse(out).byOptimisation.all.maxAbsError
  assert.ok(error(checked) < error(before) / 4, `${error(checked)} against ${error(before)}`)
})

test('own metrics and targets are in help, completion, recipes and messages, and do their work', async () => {
  assert.equal(mnc(folder, 'build', 'tiny', '-o', 'a.onnx').exit, 0)
  assert.equal(mnc(folder, '--seed', '7', 'build', 'tiny', '-o', 'b.onnx').exit, 0)
  const measure = ['--json', 'eval', 'a.onnx', '--data', 'waves', '--metric', 'most-wrong', '--reference', 'b.onnx']
  const { value } = JSON.parse(mnc(folder, ...measure).out).metrics['most-wrong']
  assert.ok(Math.abs(value - (await mostWrong(at('a.onnx'), at('b.onnx')))) < 1e-5, `${value}`)
  assert.match(mnc(folder, 'eval', '--help').out, /map, most-wrong/)
  assert.match(
    mnc(folder, 'eval', 'a.onnx', '--data', 'waves', '--metric', 'most-wrng').err,
    /did you mean 'most-wrong'/,
  )
  assert.equal(mnc(folder, 'quantize', 'a.onnx', '--ops', 'Gemm', '--data', 'waves', '-o', 'q.onnx').exit, 0)
  const exported = mnc(folder, 'export', 'q.onnx', '--target', 'board', '-o', 'e.onnx')
  assert.equal(exported.exit, 0, exported.err)
  assert.match(exported.err, /target board: --format int4 --short-names, as its flash is small/)
  const help = (command: string): string => mnc(folder, command, '--help').out.replace(/\s+/g, ' ')
  assert.match(help('export'), /board: the board on our desk/)
  for (const command of ['export', 'compress']) assert.match(help(command), /, board\)/)
  const { out: completion } = mnc(folder, 'completion', 'bash')
  assert.match(completion, /'export --target'\) offer='' values='[^']* board'/)
  assert.match(completion, /'eval --metric'\) offer='' values='[^']* most-wrong'/)
  const recipe = { name: 'boarded', stages: [{ name: 'e', from: './q.onnx', export: { target: 'board' } }] }
  writeFileSync(at('boarded.json'), JSON.stringify(recipe))
  const ran = mnc(folder, 'run', 'boarded.json')
  assert.equal(ran.exit, 0, ran.err)
  assert.match(printModel(await readModel(at('build/boarded/e.onnx'))), /int4\[2,16\]/)
  const schema = mnc(folder, 'run', '--schema').out
  assert.equal(JSON.parse(schema).title, 'mnc recipe')
  for (const name of ['rename-graph', 'log-cosh', 'board']) assert.ok(schema.includes(JSON.stringify(name)), name)
  const slips = { name: 's', stages: [{ name: 'e', from: './q.onnx', train: { loss: 'log-csh' } }] }
  writeFileSync(at('slips.json'), JSON.stringify(slips))
  assert.match(
    mnc(folder, 'run', 'slips.json').err,
    /^mnc: slips\.json: stage 'e', train, loss: must be one of ce, .*, log-cosh; did you mean 'log-cosh'\? \(mnc run --schema prints/,
  )
  // elsewhere nobody knows them
  assert.match(
    mnc(folder, '--no-config', 'export', 'q.onnx', '--target', 'board').err,
    /--target must be one of size, cpu/,
  )
})

/** Over the test set of waves, in onnxruntime. */
async function mostWrong(a: string, b: string): Promise<number> {
  const x = Array.from({ length: 32 }, (_, i) =>
    Array.from({ length: 16 }, (_, t) => Math.sin((t + i) * (i % 2 ? 2 : 0.5))),
  ).flat()
  const feeds = { input: new ort.Tensor('float32', Float32Array.from(x), [32, 1, 4, 4]) }
  const [p, q] = await Promise.all(
    [a, b].map(async (file) => {
      const session = await ort.InferenceSession.create(file)
      return (await session.run(feeds)).logits!.data as Float32Array
    }),
  )
  return Math.max(...p!.map((v, i) => Math.abs(v - q![i]!)))
}

test('slips among own names suggest own names; --no-config forgets them', () => {
  assert.match(mnc(folder, 'rename-grph', 'tiny.onnx').err, /Did you mean rename-graph\?/)
  assert.match(mnc(folder, 'eval', 'tiny.onnx', '--data', 'wavess').err, /did you mean 'waves'\?/)
  assert.equal(mnc(folder, '--no-config', 'rename-graph', 'tiny.onnx').exit, 2)
  assert.equal(mnc(tmpdir(), '--config', at('mnc.config.ts'), 'build', 'tiny', '-o', at('t2.onnx')).exit, 0)
})

test('the nearest configuration wins: that of the model before that of the folder', () => {
  mkdirSync(at('deep/er'), { recursive: true })
  writeFileSync(at('deep/mnc.config.mjs'), 'export default {}')
  writeFileSync(at('deep/er/x.onnx'), '')
  assert.equal(findConfig([at('deep/er/x.onnx')], folder), at('deep/mnc.config.mjs'))
  assert.equal(findConfig(['absent.onnx'], folder), at('mnc.config.ts'))
})

test('a faulty configuration is one message that names the file, exit 2', () => {
  const bad = at('bad.mjs')
  for (const [text, message] of [
    ['export default { pases: [] }', /bad\.mjs: a configuration has no 'pases', did you mean 'passes'\?/],
    [
      `export default { targets: [{ name: 'x', summary: '', pick: 'first', aim: 'bytes', readers: [], forms: [{ options: { format: 'no' } }] }] }`,
      /bad\.mjs: target 'x': --format must be one of packed/,
    ],
    [
      `export default { targets: [{ name: 'x', summary: '', pick: 'first', aim: 'bytes', readers: ['caffe'], forms: [] }] }`,
      /bad\.mjs: 'caffe' is no reader/,
    ],
    ['export default { passes: [{ name: "x" }] }', /bad\.mjs: one of 'passes' has no run and no summary/],
    [
      'export default { targets: [{ name: "x", summary: "" }] }',
      /one of 'targets' has no forms and no pick and no aim/,
    ],
    [
      'export default { metrics: [{ name: "f1", summary: "s", against: "values", start() {} }] }',
      /a metric named 'f1'/,
    ],
    ['export const config = {}', /bad\.mjs: it has no default export/],
    ['export default {', /bad\.mjs: it cannot be loaded: /],
    ['throw new Error("not today")', /bad\.mjs: it cannot be loaded: not today/],
    [
      'export default { losses: [{ name: "ce", summary: "s", emit() {} }] }',
      /bad\.mjs: there is a loss named 'ce' already \(give yours another name\)/,
    ],
    ['export default { losses: [{ name: "My Loss", summary: "s", emit() {} }] }', /cannot be named 'My Loss'/],
  ] as const) {
    writeFileSync(bad, text)
    const { exit, err, out } = mnc(folder, '--config', bad, 'pass', '--list')
    assert.equal(exit, 2, err)
    assert.match(err, message)
    assert.equal(out, '')
  }
  assert.match(mnc(folder, '--config', at('absent.ts'), 'pass', '--list').err, /there is no such configuration/)
})

test("what is wrong in one's own code is said with its name and the configuration, exit 2", () => {
  const place = at('faulty.mjs')
  writeFileSync(
    place,
    `import { defineConfig, Tensor } from 'mnc'
const fail = (text) => () => { throw new TypeError(text) }
const labelled = (result) => ({ summary: 's', better: 'lower', against: 'labels', start: () => result })
const fine = () => ({
  input: Tensor.float32([30, 1, 4, 4], Array.from({ length: 480 }, (_, i) => Math.sin(i))),
  labels: Tensor.int64([30], Array.from({ length: 30 }, (_, i) => i % 2)),
})
export default defineConfig({
  passes: [
    { name: 'bad-pass', summary: 's', options: {}, preserves: 'nothing', run: fail('in a pass') },
    { name: 'late-pass', summary: 's', options: {}, preserves: 'nothing', run: async () => fail('in a promise')() },
  ],
  datasets: [
    { name: 'fine', summary: 's', open: fine },
    { name: 'bad-data', summary: 's', open: fail('no such disk') },
    { name: 'no-data', summary: 's', open: () => undefined },
    { name: 'no-tensor', summary: 's', open: () => ({ input: [1, 2] }) },
  ],
  metrics: [
    { name: 'bad-add', ...labelled({ add: fail('while adding'), result: () => ({ value: 1 }) }) },
    { name: 'bad-result', ...labelled({ add() {}, result: fail('at the end') }) },
    { name: 'bad-start', ...labelled(), start: fail('at the start') },
  ],
  losses: [
    { name: 'bad-loss', summary: 's', emit: fail('in a loss') },
    { name: 'no-scalar', summary: 's', emit: (b, s, t) => b.op('Sub', [s, t]) },
  ],
  networks: [{ family: 'bad-net', summary: 's', options: {}, build: fail('in a network') }],
})
`,
  )
  const run = (...words: readonly string[]) => mnc(folder, '--config', place, ...words)
  const train = (loss: string): readonly string[] => [
    ...['train', 'tiny.onnx', '--teacher', 'tiny.onnx', '--data', 'fine', '--batch', '10', '--loss', loss],
    ...['--max-steps', '2', '-o', 'faulty.onnx'],
  ]
  const measured = (metric: string): readonly string[] => ['eval', 'tiny.onnx', '--data', 'fine', '--metric', metric]
  const cases: readonly (readonly [readonly string[], string])[] = [
    [['bad-pass', 'tiny.onnx'], "pass 'bad-pass': in a pass"],
    [['late-pass', 'tiny.onnx'], "pass 'late-pass': in a promise"],
    [['eval', 'tiny.onnx', '--data', 'bad-data'], "data set 'bad-data': no such disk"],
    [measured('bad-add'), "metric 'bad-add': while adding"],
    [measured('bad-result'), "metric 'bad-result': at the end"],
    [measured('bad-start'), "metric 'bad-start': at the start"],
    [train('bad-loss'), "loss 'bad-loss': in a loss"],
    [['build', 'bad-net'], "network 'bad-net': in a network"],
  ]
  for (const [words, message] of cases) {
    const { exit, err } = run(...words)
    assert.equal(exit, 2, err)
    assert.ok(err.includes(`mnc: ${place}: ${message} (MNC_DEBUG=1 shows where)`), err)
  }
  const others: readonly (readonly [readonly string[], RegExp])[] = [
    [['eval', 'tiny.onnx', '--data', 'no-data'], /no-data#test: open returns no arrays \(return them by name/],
    [['eval', 'tiny.onnx', '--data', 'no-tensor'], /no-tensor#test: 'input' is no tensor \(Tensor\.float32/],
    [train('no-scalar'), /loss 'no-scalar' gives \[10, 2\], and a loss is one number \(end it with ReduceMean/],
  ]
  for (const [words, message] of others) {
    const { exit, err } = run(...words)
    assert.equal(exit, 2, err)
    assert.match(err, message)
  }
  assert.ok(!existsSync(at('faulty.onnx')))
  const shown = spawnSync(process.execPath, [cli, '--config', place, 'bad-pass', 'tiny.onnx'], {
    ...{ cwd: folder, encoding: 'utf8', env: { ...process.env, MNC_DEBUG: '1' } },
  })
  assert.match(shown.stderr, /TypeError: in a pass\s+at .*faulty\.mjs:2:/)
})

test('in the library: recipes are read by the configuration in use', async () => {
  const recipe = { name: 'r', data: 'embedded', stages: [{ name: 's', build: 'lenet', train: { loss: 'own' } }] }
  await assert.rejects(parseRecipe(recipe), /loss: must be one of/)
  useConfig({ losses: [{ name: 'own', summary: 's', emit: () => assert.fail() }] })
  assert.equal((await parseRecipe(recipe)).stages.length, 1)
  useConfig({})
  await assert.rejects(parseRecipe(recipe), /loss: must be one of/)
})

test('in the library: a configuration in use replaces the one before; String(error) says all of it', () => {
  const loss = { name: 'own', summary: 's', emit: () => assert.fail() }
  useConfig(defineConfig({ losses: [loss] }))
  useConfig(defineConfig({ losses: [loss] }))
  useConfig({})
  const error = new MncError('it is wrong', { code: 'bad', blame: 'user', file: 'a.onnx', node: 'n', next: 'mend it' })
  assert.equal(String(error), "MncError (bad): a.onnx, node 'n': it is wrong (mend it)")
})
