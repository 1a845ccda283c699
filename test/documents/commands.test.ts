/**
 * The command lines of the documents, carried out: those of a document in order, by a shell, in a folder that has the files which they
 * name, with the built command. Data and networks are small and long work is cut short (`lighter`); nothing else is changed, but that
 * of make's targets only the commands are looked up. The tutorials' lines are carried out with the packed package
 * (test/package/installed.test.ts).
 */
import assert from 'node:assert/strict'
import { cpSync, readdirSync } from 'node:fs'
import { join } from 'node:path'
import test from 'node:test'
import { launcherOf, skipped } from '../support/mpi.ts'
import { blocksOf, commandsIn, documents } from './blocks.ts'
import { makeExpected } from './expected-files.ts'
import { root, workplace } from './workplace.ts'

const isTutorial = (document: string): boolean => document.startsWith('docs/tutorials/')

/** What cannot be carried out here, and why. */
const notHere: Readonly<Record<string, string>> = {
  'npm install --ignore-scripts mnc': 'test/package/installed.test.ts installs the packed package',
  'srun --mpi=pmix -n 16 mnc train net.onnx --data cifar10:data --batch 32 -o trained.onnx':
    'takes Slurm: test/examples/cluster.test.ts starts it, and runs slurm-train.sh, which has this line',
  'MNC_READERS=venv/bin/python mnc check trained.onnx trained.openvino.onnx --target openvino':
    'takes a Python with OpenVINO; test/check/readers.test.ts is about the readers that there are',
  'mnc doctor --device webgpu student.onnx':
    'takes a graphics driver; test/runtime/webgpu.test.ts is skipped without one, too',
  'npm publish build/mnc-0.1.0.tgz': 'publishes',
  'git worktree add ../before main && (cd ../before && make build)': 'is about another checkout',
  'make build && make same-bytes BEFORE=../before': 'is about another checkout',
  'node --import tsx scripts/same-bytes.ts ../before . --only recipe --zoo DIR': 'is about another checkout',
}

/** The same work, less of it. */
const lighter: readonly (readonly [RegExp, string])[] = [
  [/\bnpx /, ''],
  [/\bmnc build densenet-bc-100-12\b/, 'mnc build resnet --depth 8 --width 4 --size 32 --classes 100'],
  [/\bmnc train\b/, '$& --max-steps 2'],
  [/\bmnc ptq\b/, '$& --effort fast --limit 24'],
  [/\bmnc compress net/, 'mnc compress --effort fast --limit 24 net'],
  [/\bmnc sensitivity\b/, '$& --limit 8'],
  [/\bmnc (bench|report)\b/, '$& --seconds 0.02'],
  [/ --effort best\b/, ''],
  [/--time 60m/, '--time 1s'],
  [/--jobs 4/, '--jobs 2'],
  [/--shard 1\/8/, '--shard 1/2'],
  [/-of-8\b/, '-of-2'],
  [/\bmpirun -n 4\b/, launcherOf('Open MPI').start(2).join(' ')],
  [/\bmnc run quickstart\b/, 'mnc run quickstart.json'],
  [/^make (\w+)$/, `make -n -C '${root}' $1`],
]
const lightly = (line: string): string => lighter.reduce((l, [from, to]) => l.replace(from, to), line)

/** A share is one of several: all of them. */
function allShares(line: string): string[] {
  const of = Number(/--shard 1\/(\d+)/.exec(line)?.[1] ?? 1)
  return Array.from({ length: of }, (_, i) => line.replace(/--shard 1\//, `--shard ${i + 1}/`))
}

/** Long commands that several documents have are carried out for the first; what they wrote, by its names' beginning, is copied for the others. */
const long: readonly (readonly [RegExp, string])[] = [
  [/^mnc compress net.* -o small\.onnx$/, 'small.'],
  [/^mnc run quickstart --workdir build\/quickstart$/, 'build'],
]

const copied = (from: string, to: string, names: string): void => {
  for (const name of readdirSync(from).filter((file) => file.startsWith(names)))
    cpSync(join(from, name), join(to, name), { recursive: true })
}

class Once {
  readonly #kept = new Map<string, string>()

  /** Carries a line out in a folder, or takes what it wrote before. */
  do(line: string, folder: string, carryOut: () => void): void {
    const [, names] = long.find(([kind]) => kind.test(line)) ?? []
    const before = this.#kept.get(line)
    if (names !== undefined && before !== undefined) {
      copied(before, folder, names)
      return
    }
    carryOut()
    if (names === undefined) return
    // later lines may write the same files
    const kept = workplace(`kept ${this.#kept.size}`).folder
    copied(folder, kept, names)
    this.#kept.set(line, kept)
  }
}

const once = new Once()
const all = documents
  .filter((document) => !isTutorial(document))
  .flatMap((document) =>
    blocksOf(document).flatMap((block) => commandsIn(block).map((line) => ({ document, line, where: block.where }))),
  )

for (const document of new Set(all.map((line) => line.document)))
  test(`the command lines of ${document}`, () => {
    const { folder, shell } = workplace(document)
    for (const { line, where } of all.filter((own) => own.document === document)) {
      if (Object.hasOwn(notHere, line)) continue
      if (line.startsWith('mpirun') && skipped('Open MPI')) continue
      makeExpected(document, line, folder, shell)
      once.do(line.replace(/^npx /, ''), folder, () => {
        for (const own of allShares(lightly(line)))
          try {
            shell(own)
          } catch (cause) {
            assert.fail(`${where}: ${cause instanceof Error ? cause.message : cause}`)
          }
      })
    }
  })

test('what is not carried out here is in the documents', () => {
  const lines = all.map(({ line }) => line)
  assert.deepEqual(
    Object.keys(notHere).filter((line) => !lines.includes(line)),
    [],
  )
})

test('many lines are carried out, of all kinds', () => {
  assert.ok(all.length > 100, `${all.length}`)
  for (const kind of [/&&/, /> ~\//, /\*/, /^mpirun /, /^npx /, /^mnc /])
    assert.ok(
      all.some(({ line }) => kind.test(line)),
      `${kind}`,
    )
})
