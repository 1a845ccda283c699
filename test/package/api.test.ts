/** The published interface is what docs/api.txt says; what changes in it is in the change log. */
import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import test from 'node:test'
import { API, changesOf, parseReport, reportOf, textOf, unsaid } from '../../scripts/api-report.ts'

const now = reportOf('dist/index.d.ts')

test('docs/api.txt is what the build declares', () => {
  const changes = changesOf(parseReport(readFileSync(API, 'utf8')), now)
  assert.deepEqual(changes, [], `${changes.join(', ')}: name them in CHANGELOG.md, then make api`)
})

test('the report holds every export, with what its signature refers to, and reads itself', async () => {
  const library = await import('../../src/index.ts')
  for (const name of Object.keys(library)) assert.ok(now.has(name), name)
  assert.match(now.get('train')!, /export declare function train\(model: Model, run: TrainRun/)
  assert.match(now.get('pass')!, /export declare function runPass</)
  assert.ok(now.has('compress/compress-options: compressOptions') && now.has('InsertPruneMaskOptions'))
  assert.ok(![...now.values()].some((text) => text.includes('/**')))
  assert.deepEqual(changesOf(now, parseReport(textOf(now))), [])
})

const log = (text: string): string => `# Changes\n\n## Unreleased\n\n${text}\n\n## 0.0.9\n\n- \`train\`, \`evaluate\`\n`
const changed = (name: string, from: string, to: string) => {
  assert.ok(now.get(name)!.includes(from), `${name} has no ${from}`)
  return new Map(now).set(name, now.get(name)!.replace(from, to))
}

test('a signature that changes has to be named in the current section of the change log', () => {
  const other = changed('train', 'model: Model', 'model: Model | string')
  assert.deepEqual(unsaid(now, other, log('- nothing')), ['train'])
  assert.deepEqual(unsaid(now, other, log('- train takes a path')), ['train'])
  assert.deepEqual(unsaid(now, other, log('- `train(path)`')), [])
  const fewer = new Map(now)
  fewer.delete('evaluate')
  assert.deepEqual(unsaid(now, fewer, log('- `train`')), ['evaluate'])
  assert.deepEqual(unsaid(fewer, now, log('- `train`')), ['evaluate'])
  assert.deepEqual(unsaid(fewer, now, log('- new: `evaluate`')), [])
})

test('of a type or a table, the member that changes will do, as a flag too', () => {
  const table = 'compress/compress-options: compressOptions'
  const other = changed(table, 'readonly minCosine:', 'readonly warmUp:')
  assert.deepEqual(unsaid(now, other, log('- `--warm-down`')), [table])
  assert.deepEqual(unsaid(now, other, log('- `--warm-up`, in place of another')), [])
  assert.deepEqual(unsaid(now, other, log('- `compressOptions`')), [])
  const options = changed('ExportOptions', 'readonly rowPairs?: boolean', 'readonly rowTriples?: boolean')
  assert.deepEqual(unsaid(now, options, log('- `--rows`')), ['ExportOptions'])
  assert.deepEqual(unsaid(now, options, log('- `--row-triples`')), [])
})
