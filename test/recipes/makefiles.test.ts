/** The example Makefiles chain the same commands that their recipes stand for. */
import assert from 'node:assert/strict'
import { execFileSync } from 'node:child_process'
import test from 'node:test'
import { commandLines } from '../../src/recipes/command-lines.ts'
import { loadRecipe } from '../../src/recipes/load.ts'

/** Flags that say where files lie, not what is done. */
const places = new Set(['-o', '--log', '--teacher', '--data'])
const bare = new Set(['--resume', '--json'])

/** `train x.onnx --lr 0.1 -o y.onnx` as `train --lr 0.1`: flags sorted, files left out. */
function essence(words: readonly string[]): string {
  const plain: string[] = []
  const flags: string[] = []
  for (let i = 0; i < words.length; i++) {
    const w = words[i]!
    if (w === '>') break
    if (bare.has(w)) continue
    if (places.has(w)) i++
    else if (w.startsWith('-')) flags.push(`${w} ${words[++i]}`)
    else if (!/\.(onnx|json)$/.test(w)) plain.push(w)
  }
  return [...plain, ...flags.sort()].join(' ')
}

function makeLines(folder: string): string[] {
  const text = execFileSync('make', ['-n', '-B', '-C', folder, 'MNC=mnc'], { encoding: 'utf8' })
  return text.split('\n').flatMap((l) => (l.startsWith('mnc ') ? [essence(l.split(' ').slice(1).filter(Boolean))] : []))
}

for (const name of ['quickstart', 'micronet-cifar100'])
  test(`examples/${name}/Makefile does what the recipe does`, async () => {
    const { stages } = await loadRecipe(name)
    const wanted = stages.flatMap(commandLines).map((l) => essence(l.split(' ')))
    const measuring = /^(eval|score)\b/
    const made = makeLines(`examples/${name}`).filter((l) => !measuring.test(l))
    assert.deepEqual(made.sort(), wanted.filter((l) => !measuring.test(l)).sort())
    assert.ok(made.length > 15)
  })
