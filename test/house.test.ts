/** scripts/house.mjs on small trees that each break one rule. */
import assert from 'node:assert/strict'
import { spawnSync } from 'node:child_process'
import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import test, { type TestContext } from 'node:test'

const script = join(import.meta.dirname, '..', 'scripts', 'house.mjs')

const rooms = {
  packages: { ajv: ['src/top/checked.ts'] },
  floors: [
    { base: { holds: 'what all need', files: ['errors.ts'] } },
    { ops: { holds: 'operators' } },
    { left: { holds: 'one side' }, right: { holds: 'the other' } },
    { top: { holds: 'what is above' } },
  ],
}

/** A tree in which no rule is broken. */
const sound: Readonly<Record<string, string>> = {
  'errors.ts': 'export const error = 1\n',
  'ops/index.ts': "import { error } from '../errors.ts'\nexport const ops = ['Conv', 'Relu', 'Gemm', error]\n",
  'left/a.ts': "import { ops } from '../ops/index.ts'\nexport const a = ops\n",
  'right/b.ts': "export const b = graph.op('Conv', [x])\n",
  'top/checked.ts': "import Ajv from 'ajv'\nimport { a } from '../left/a.ts'\nexport const c = new Ajv(a)\n",
}

type Files = Readonly<Record<string, string>>

function treeOf(t: TestContext, files: Files): string {
  const root = mkdtempSync(join(tmpdir(), 'mnc-house-'))
  t.after(() => rmSync(root, { recursive: true }))
  const write = (path: string, content: string): void => {
    mkdirSync(dirname(join(root, path)), { recursive: true })
    writeFileSync(join(root, path), content)
  }
  write('scripts/house/rooms.json', JSON.stringify(rooms))
  for (const [path, content] of Object.entries({ ...sound, ...files })) write(`src/${path}`, content)
  return root
}

function house(root: string, ...args: string[]): { code: number | null; lines: string[] } {
  const { status, stdout } = spawnSync(process.execPath, [script, '--root', root, ...args], { encoding: 'utf8' })
  return { code: status, lines: stdout.split('\n').filter((line) => line !== '') }
}

test('a sound tree passes', (t) => {
  const { code, lines } = house(treeOf(t, {}))
  assert.equal(code, 0, lines.join('\n'))
  assert.ok(lines.includes('5 rooms on 4 floors, 3 arrows, 5 files'), lines.join('\n'))
})

/** Rules whose limit is 0: the figure, what breaks the rule, the line that says so. */
const broken: readonly (readonly [string, Files, string])[] = [
  ['files without a room', { 'loose.ts': '' }, 'src/loose.ts'],
  ['files without a room', { 'attic/a.ts': '' }, 'src/attic/a.ts'],
  [
    'imports that go up or across',
    { 'ops/up.ts': "import { a } from '../left/a.ts'\n" },
    'src/ops/up.ts -> src/left/a.ts (ops -> left)',
  ],
  [
    'imports that go up or across',
    { 'errors.ts': "import type { A } from './left/a.ts'\n" },
    'src/errors.ts -> src/left/a.ts (base -> left)',
  ],
  [
    'imports that go up or across',
    { 'right/b.ts': "export type { A } from '../left/a.ts'\n" },
    'src/right/b.ts -> src/left/a.ts (right -> left)',
  ],
  [
    'imports that go up or across',
    { 'right/b.ts': "const { a } = await import('../left/a.ts')\n" },
    'src/right/b.ts -> src/left/a.ts (right -> left)',
  ],
  [
    'imports that go up or across',
    { 'right/b.ts': "type A = import('../left/a.ts').A\n" },
    'src/right/b.ts -> src/left/a.ts (right -> left)',
  ],
  ['packages outside their place', { 'left/v.ts': "import Ajv from 'ajv'\n" }, 'src/left/v.ts -> ajv'],
  ['packages outside their place', { 'top/v.ts': "import x from '@some/thing/deep'\n" }, 'src/top/v.ts -> @some/thing'],
  ['imports of nothing', { 'left/v.ts': "import './gone.ts'\n" }, 'src/left/v.ts -> src/left/gone.ts'],
]

for (const [figure, files, line] of broken)
  test(`${figure}: ${line}`, (t) => {
    const root = treeOf(t, files)
    assert.equal(house(root).code, 1)
    assert.deepEqual(house(root, '--list', figure).lines, [line])
  })

test('a room without a file is reported', (t) => {
  const root = treeOf(t, {})
  rmSync(join(root, 'src/right'), { recursive: true })
  assert.deepEqual(house(root, '--list', 'rooms without a file').lines, ['src/right/'])
})

test('circles, of types too; one group each', (t) => {
  const root = treeOf(t, {
    'left/p.ts': "import type { Q } from './q.ts'\n",
    'left/q.ts': "export { r } from './r.ts'\n",
    'left/r.ts': "const p = () => import('./p.ts')\n",
    'left/s.ts': "import './p.ts'\n",
  })
  assert.deepEqual(house(root, '--list', 'circles of files').lines, ['src/left/p.ts, src/left/q.ts, src/left/r.ts'])
})

test('a name of an operator counts however it is used, unless a node is made with it', (t) => {
  const uses = [
    "const isConv = node.op === 'Conv'",
    'const same = "Relu" == node.op',
    "const layers = new Set(['Conv', 'Gemm'])",
    "switch (op) { case 'Relu': break }",
    "if (node.is('Gemm')) x()",
    'if (node.op === `Conv`) x()',
    'if (/^(Relu|Clip)$/.test(op)) x()',
    "if (node.op.startsWith('Con')) x()",
    "const CONV = 'Conv'",
    'const text = `$' + "{node.op === 'Relu' ? 1 : 2} of $" + '{n}`',
    // none of these
    "graph.before(node).op('Conv', [x])",
    "graph.append().ops('Relu', [x], 2)",
    "// node.op === 'Conv'",
    "/* 'Conv' */ const it = \"it's 'Conv'\"",
  ]
  const { lines } = house(
    treeOf(t, { 'left/u.ts': `${uses.join('\n')}\n` }),
    '--list',
    'operator names outside src/ops',
  )
  const at = lines.map((line) => Number(/u\.ts:(\d+)/.exec(line)?.[1]))
  assert.deepEqual(at, [1, 2, 3, 3, 4, 5, 6, 7, 9, 10, 8])
})

test('keys of tables that name an operator', (t) => {
  const table = 'export const forms = { Conv: 1, Relu(x) { return x },\n  other: 2,\n  Gemm: 3 }\n'
  const { lines } = house(treeOf(t, { 'left/u.ts': table }), '--list', 'keys that name an operator outside src/ops')
  assert.deepEqual(lines, ['src/left/u.ts:1  Conv', 'src/left/u.ts:1  Relu', 'src/left/u.ts:2  Gemm'])
})

test('duplicates: six lines of code, whatever the indent and the comments', (t) => {
  const block = (indent: string, comment: string, n: number): string =>
    Array.from({ length: n }, (_, i) => `${indent}const v${i} = f(${i})${i === 2 ? comment : ''}`).join('\n')
  const root = treeOf(t, {
    'left/x.ts': `${block('', '', 6)}\n`,
    'right/y.ts': `function g() {\n${block('  ', ' // why', 6)}\n}\n`,
    'top/z.ts': `${block('', '', 5)}\nconst other = 1\n`,
  })
  const { lines } = house(root, '--list', 'duplicates of six lines or more')
  assert.deepEqual(lines, ['6  src/left/x.ts:1  src/right/y.ts:2'])
})

test('casts through unknown, over two lines too', (t) => {
  const root = treeOf(t, {
    'left/c.ts': 'const a = b as unknown as C\nconst d = e as unknown\n  as F\n// as unknown as\n',
  })
  assert.deepEqual(house(root, '--list', 'casts through unknown').lines, ['src/left/c.ts:1', 'src/left/c.ts:2'])
})

test('docs/architecture.md has the table of rooms, floor by floor', () => {
  const text = readFileSync('docs/architecture.md', 'utf8')
  const { floors } = JSON.parse(readFileSync('scripts/house/rooms.json', 'utf8')) as {
    floors: Record<string, { holds: string }>[]
  }
  const rows = floors.flatMap((f, i) =>
    Object.entries(f).map(([room, { holds }]) => `| ${i} | \`${room}\` | ${holds} |`),
  )
  assert.deepEqual(
    text.split('\n').filter((l) => /^\| \d/.test(l)),
    rows,
  )
})

test('CONTRIBUTING.md names files and folders that are there', () => {
  const text = readFileSync('CONTRIBUTING.md', 'utf8')
  const named = [...text.matchAll(/`((?:src|scripts|test)\/[\w./-]+)`/g)]
    .map((m) => m[1]!)
    .filter((p) => !/NAME|PASS/.test(p))
  assert.ok(named.length > 15)
  assert.deepEqual(
    named.filter((p) => !existsSync(p)),
    [],
  )
})
