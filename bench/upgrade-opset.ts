/**
 * How many older forms of the ONNX node tests still give the expected outputs in onnxruntime once `upgrade-opset` has
 * upgraded them. Prints a line for every miss and the counts.
 *
 *   npx tsx bench/upgrade-opset.ts [to] [name part]
 */
import { nodeTests, readNodeTest } from '../test/support/node-tests.ts'
import { checkUpgrades, type Outcome } from '../test/support/upgrade-check.ts'

const to = Number(process.argv[2] ?? 21)
const part = process.argv[3] ?? ''
const all: Outcome[] = []
let cases = 0
let without = 0
for (const name of nodeTests()) {
  if (!name.includes(part)) continue
  cases++
  const c = readNodeTest(name)
  const outcomes = typeof c === 'string' ? [] : await checkUpgrades(c, to)
  if (outcomes.length === 0) without++
  for (const o of outcomes) if (o.miss) console.log(`${o.where}${o.rewritten ? ' (rewritten)' : ''}: ${o.miss}`)
  all.push(...outcomes)
}
const good = all.filter((o) => o.miss === null)
const rewritten = all.filter((o) => o.rewritten)
console.log(
  JSON.stringify({
    to,
    cases,
    withoutOlderForm: without,
    olderForms: all.length,
    equal: good.length,
    share: good.length / all.length,
    rewrittenForms: rewritten.length,
    rewrittenEqual: rewritten.filter((o) => o.miss === null).length,
    misses: Object.fromEntries(all.flatMap((o) => (o.miss ? [[o.where, o.miss]] : []))),
  }),
)
