/** `mnc --help` must not load engines and codecs: what cli.ts imports statically is commands and tables of options. */
import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import { dirname, relative, resolve } from 'node:path'
import test from 'node:test'

test('the command line reaches no heavy package through static imports', () => {
  const packages = new Set<string>()
  const files = new Set<string>()
  const visit = (file: string): void => {
    if (files.has(file)) return
    files.add(file)
    // `import type` and `export type` lines vanish when compiled
    for (const [, specifier] of readFileSync(file, 'utf8').matchAll(
      /^(?:import|export) (?!type\b)[^;]*? from '([^']+)'/gm,
    ))
      if (specifier!.startsWith('.')) visit(resolve(dirname(file), specifier!))
      else if (!specifier!.startsWith('node:')) packages.add(specifier!)
  }
  visit('src/cli.ts')
  assert.deepEqual([...packages], ['commander'])
  const heavy = [...files]
    .map((f) => relative('src', f))
    .filter(
      (f) =>
        !/^(cli|(base|commands|models|data\/formats|evaluate\/metrics|export\/targets)\/.*|config\/find|score\/report|train\/losses|sensitivity\/point|.*-(options|warnings?))\.ts$/.test(
          f,
        ),
    )
  assert.deepEqual(heavy, [])
})
