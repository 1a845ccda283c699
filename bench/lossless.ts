/**
 * `mnc convert` on every model of the zoo and every ONNX node test: what is written is compared with what was read, field
 * by field and unknown fields included, by a reader of the wire format that shares nothing with mnc. Then the large
 * tensors are moved out of the file and back in, which must restore every tensor's bytes. There is no peer: it is a
 * check.
 *
 *   node --import tsx bench/lossless.ts
 */
import { cpSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { basename, dirname, join } from 'node:path'
import { readModel } from '../src/codec/codec.ts'
import { runCommandLine } from '../src/commands/program.ts'
import { Sink } from '../test/cli/sink.ts'
import { externalZoo, nodeTests, zoo } from '../test/graph/files.ts'
import { firstDifference } from '../test/graph/wire.ts'

const scratch = mkdtempSync(join(tmpdir(), 'mnc-lossless-'))
const misses: string[] = []

async function convert(...args: string[]): Promise<void> {
  const [stdout, stderr] = [new Sink(), new Sink()]
  const code = await runCommandLine(['convert', ...args], { stdout, stderr })
  if (code !== 0) throw new Error(`exit ${code}: ${stderr.text}`)
}

/** The model's nodes are sorted when it is read, if they are not sorted yet. */
const unsorted = new Set(['ort_bert_toy_optimized.onnx'])

async function check(file: string): Promise<void> {
  // next to the file: external data stays where it is
  const same = join(dirname(file), 'mnc-same.onnx')
  const [outside, inside] = [join(scratch, 'outside.onnx'), join(scratch, 'inside.onnx')]
  await convert(file, '-o', same)
  const difference = firstDifference(readFileSync(file), readFileSync(same), 'Model', unsorted.has(basename(file)))
  if (difference) misses.push(`${basename(dirname(file))}/${basename(file)}: ${difference}`)
  await convert(file, '--external-data', '-o', outside)
  await convert(outside, '-o', inside)
  const [before, after] = [await readModel(file), await readModel(inside)]
  for (const v of before.graph.initializers())
    if (!after.graph.find(v.name)?.constant?.equals(v.constant!)) misses.push(`${file}: tensor ${v.name}`)
}

const counts: Record<string, number> = {}
async function all(what: string, files: readonly string[]): Promise<void> {
  for (const [i, file] of files.entries()) {
    const folder = join(scratch, what, String(i))
    cpSync(dirname(file), folder, {
      recursive: true,
      filter: (f) => f === dirname(file) || what === 'external' || f === file,
    })
    await check(join(folder, basename(file)))
    rmSync(folder, { recursive: true })
  }
  counts[what] = files.length
}

try {
  await all('zoo', zoo())
  const external = externalZoo()
  await all('external', external ? [join(external, 'model.onnx')] : [])
  await all('nodeTests', nodeTests())
  const result = { ...counts, unsorted: [...unsorted], misses }
  console.log(JSON.stringify(result, null, 2))
  writeFileSync('bench/results/lossless.json', `${JSON.stringify(result, null, 2)}\n`)
  process.exitCode = misses.length > 0 ? 1 : 0
} finally {
  rmSync(scratch, { recursive: true })
}
