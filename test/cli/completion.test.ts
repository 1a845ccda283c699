/** Completion as each shell that is installed does it: commands, options, the values of both, and files. */
import assert from 'node:assert/strict'
import { spawnSync } from 'node:child_process'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import test, { after } from 'node:test'
import type { CommandDef } from '../../src/commands/define-command.ts'
import { commands } from '../../src/commands/index.ts'
import { mnc } from './run-mnc.ts'

const folder = mkdtempSync(join(tmpdir(), 'mnc-completion-'))
after(() => rmSync(folder, { recursive: true }))
const at = (name: string): string => join(folder, name)
writeFileSync(at('lenet.onnx'), '')

/** Of a line, what is offered for its last word; or, in zsh, what stands on the screen after a tab or two. */
type Offers = (script: string, line: string) => string

const run = (program: string, args: readonly string[]): string =>
  spawnSync(program, args, { cwd: folder, encoding: 'utf8', env: { ...process.env, TERM: 'dumb', HOME: folder } })
    .stdout

const bash: Offers = (script, line) => {
  const words = line.split(' ').map((w) => `'${w}'`)
  const set = `COMP_WORDS=(${words.join(' ')}); COMP_CWORD=${words.length - 1}`
  return run('bash', ['-c', `source ${script}; ${set}; _mnc; printf '%s\\n' "\${COMPREPLY[@]}"`])
}

const fish: Offers = (script, line) => run('fish', ['--no-config', '-c', `source ${script}; complete -C '${line}'`])

/** An interactive shell at the other end of a terminal; reading waits for what it writes last. */
const zsh: Offers = (script, line) =>
  run('zsh', [
    '-f',
    '-c',
    `zmodload zsh/zpty
zpty shell zsh -f -i
zpty -w shell "PS1='> '; autoload -U compinit; compinit -u -d ${at('dump')}; unsetopt beep automenu; stty columns 400; source ${script}; print REA''DY"
zpty -r shell out '*READY*> *'
zpty -w -n shell '${line}'$'\\t\\t'
zpty -w -n shell $'\\C-a#\\C-e END'
zpty -w shell ''
zpty -r shell out '* END*'
print -r -- "$out"
zpty -d shell`,
  ])

const cases: readonly (readonly [line: string, ...offered: readonly string[]])[] = [
  ['mnc export lenet.onnx --format int', 'int4', 'int8'],
  ['mnc prune --scope g', 'global'],
  ['mnc eval lenet.onnx --data emb', 'embedded'],
  ['mnc run quick', 'quickstart'],
  ['mnc build len', 'lenet'],
  ['mnc prune len', 'lenet.onnx'],
  ['mnc prune --spars', '--sparsity'],
  ['mnc pass remove-ch', 'remove-channels'],
  ['mnc sens', 'sensitivity'],
  ['mnc eval --device cor', 'coreml'],
  ['mnc train --augment mic', 'micronet'],
  ['mnc train --metric per', 'per-class'],
  ['mnc quantize --data ran', 'random'],
  ['mnc run --data emb', 'embedded'],
  ['mnc ptq --without rec', 'reconstruct'],
  ['mnc prune --ops Ma', 'MatMul'],
  ['mnc eval --metric accuracy,conf', 'accuracy,confusion'],
  ['mnc compress --goal lat', 'latency='],
  ['mnc eval --classes len', 'lenet.onnx'],
  ['mnc --config len', 'lenet.onnx'],
  ['mnc run --no-res', '--no-resume'],
  ['mnc eval --dump-st', '--dump-stages'],
]

/** Lines whose last word is no file, though there is one of that name. */
const withoutFiles = ['mnc eval --jobs le', 'mnc eval --metric le', 'mnc export --target le']

for (const [shell, offers] of Object.entries({ bash, zsh, fish }))
  test(`completion in ${shell}`, {
    skip: spawnSync(shell, ['--version']).status === 0 ? false : `${shell} is not installed`,
  }, async () => {
    const { code, out } = await mnc('completion', shell)
    assert.equal(code, 0)
    const script = at(`mnc.${shell}`)
    writeFileSync(script, out)
    for (const [line, ...offered] of cases) {
      const text = offers(script, line)
      for (const word of offered) assert.ok(text.split(/\s+/).includes(word), `${line}: ${text}`)
      assert.doesNotMatch(text, /not found|error|unrecognized/i)
    }
    assert.ok(!offers(script, 'mnc prune --scope g').split(/\s+/).includes('layer'))
    for (const line of withoutFiles) assert.doesNotMatch(offers(script, line), /lenet\.onnx/, line)
    const behind = shell === 'bash' ? 'mnc eval --data npz : len' : 'mnc eval --data npz:len'
    assert.match(offers(script, behind), /lenet\.onnx/)
  })

/** Placeholders of texts that nothing is known about before they are given. */
const FREE = ['NAMES', 'STAGE', 'TIME', 'BYTES', 'I/N', 'INPUT=ARRAY', 'NAME=1,3,?,W']

test('every option that takes text offers values or files, or says what is written in its place', async () => {
  const check = async (list: readonly CommandDef[], path: string): Promise<void> => {
    for (const command of list) {
      for (const [name, spec] of Object.entries(command.options)) {
        if (!['string', 'strings', 'stringMap', 'choice'].includes(spec.type)) continue
        const { placeholder = '', suggestions } = spec
        const known =
          ('enum' in spec && spec.enum) || (typeof suggestions === 'function' ? await suggestions() : suggestions)
        const isFree = /FILE|DIR/.test(placeholder) || FREE.includes(placeholder)
        assert.ok((known && known.length > 0) || isFree, `${path} ${command.name} --${name} <${placeholder}>`)
      }
      await check((await command.subcommands?.()) ?? [], `${path} ${command.name}`)
    }
  }
  await check(commands, 'mnc')
})
