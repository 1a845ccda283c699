/** graph/marks.ts is the one place that knows metadata keys, and it reads what it writes. */
import assert from 'node:assert/strict'
import { readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { test } from 'node:test'
import { marks, marksOf, putMarks, stateName, vectorOf } from '../../src/graph/marks.ts'
import { Model } from '../../src/graph/model.ts'
import { Tensor } from '../../src/graph/tensor.ts'

const src = join(import.meta.dirname, '..', '..', 'src')
const sources = readdirSync(src, { recursive: true, encoding: 'utf8' })
  .filter((f) => f.endsWith('.ts') && f !== join('graph', 'marks.ts'))
  .map((file) => {
    const text = readFileSync(join(src, file), 'utf8')
    return { file, code: text.replace(/\/\*[\s\S]*?\*\/|^\s*\/\/.*$/gm, '') }
  })

test('no other file of src writes a metadata key', () => {
  assert.ok(sources.length > 300)
  const own = Object.values(marks).map((m) => m.key)
  for (const { file, code } of sources) {
    const found = code.match(/(['"`])mnc\.[a-z][a-z-]*(\1|\/)/g) ?? []
    assert.deepEqual(found, [], `${file} names a key: it belongs to graph/marks.ts`)
    for (const key of own) assert.ok(!code.includes(`'${key}'`), `${file} has '${key}'`)
  }
})

test('every mark has a key of its own, and a reader or writer', () => {
  const keys = Object.values(marks).map((m) => m.key)
  assert.equal(new Set(keys).size, keys.length)
  for (const key of keys) assert.match(key, /^mnc\.[a-z]+(-[a-z]+)*$/)
  for (const name of Object.keys(marks))
    assert.ok(
      sources.some(({ code }) => code.includes(`marks.${name}`)),
      `nothing uses marks.${name}`,
    )
})

function node() {
  const model = new Model()
  const x = model.graph.addInput('x', { elem: 'float32', dims: [1] })
  const y = model.graph.append().op('Relu', [x])
  return { model, y, n: y.producer! }
}

test('strings, numbers, flags and JSON are read back; anything else counts as absent', () => {
  const { model, n, y } = node()
  for (const m of [marks.role, marks.bits, marks.output]) assert.equal(m.get(n), undefined)
  marks.role.set(n, 'prune-mask')
  marks.bits.set(n, 4)
  marks.output.put(n)
  marks.history.set(model, [{ pass: 'prune' }])
  assert.deepEqual(
    [...n.metadata],
    [
      ['mnc.role', 'prune-mask'],
      ['mnc.bits', '4'],
      ['mnc.output', 'true'],
    ],
  )
  assert.equal(marks.role.get(n), 'prune-mask')
  assert.equal(marks.bits.get(n), 4)
  assert.ok(marks.output.is(n) && !marks.frozen.is(n) && !marks.frozen.is(y) && !marks.role.has(null))
  assert.deepEqual(marks.history.get(model), [{ pass: 'prune' }])
  model.metadata.set(marks.history.key, '{broken')
  assert.ok(marks.history.has(model))
  assert.equal(marks.history.get(model), undefined)
  assert.equal(marks.history.text(model), '{broken')
  n.metadata.set(marks.bits.key, 'four')
  n.metadata.set(marks.output.key, 'false')
  assert.equal(marks.bits.get(n), undefined)
  assert.ok(marks.output.has(n) && !marks.output.is(n))
  marks.output.drop(n)
  assert.ok(!marks.output.has(n))
})

test('marks of a node go to another, other metadata stays; setting returns whether anything changed', () => {
  const { n, y } = node()
  n.metadata.set('other', 'x')
  assert.ok(putMarks(n, { ...marks.bits.entry(3), ...marks.role.entry('weight-quant') }))
  assert.ok(!putMarks(n, marks.bits.entry(3)))
  const copy = y.graph.append().op('Relu', [y], {}, { metadata: marksOf(n) }).producer!
  assert.deepEqual([...copy.metadata.keys()].sort(), ['mnc.bits', 'mnc.role'])
})

test('initializers of a checkpoint say which vector they hold', () => {
  const { model } = node()
  const v = model.graph.addInitializer(stateName('momentum'), Tensor.scalar(1))
  assert.equal(v.name, 'mnc.state/momentum')
  assert.equal(vectorOf(v), 'momentum')
  assert.equal(vectorOf(model.graph.find('x')!), null)
})
