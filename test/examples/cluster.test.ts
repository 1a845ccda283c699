/** The job files of examples/cluster, run by the tools that they are for: the result is that of a single run. */
import assert from 'node:assert/strict'
import { execFileSync, spawnSync } from 'node:child_process'
import { existsSync, mkdirSync, readdirSync, readFileSync } from 'node:fs'
import { join, resolve } from 'node:path'
import test from 'node:test'
import { Ajv } from 'ajv'
import { writeModel } from '../../src/codec/codec.ts'
import { buildNetwork } from '../../src/models/spec.ts'
import { launcherOf, mnc, skipped } from '../support/mpi.ts'
import { sbatch, startSlurm, withoutSlurm } from '../support/slurm.ts'
import { scratch } from '../train/fixtures.ts'

const at = scratch()
const examples = resolve('examples/cluster')
const MODEL = at('net.onnx')
await writeModel(buildNetwork({ family: 'lenet', size: 12, mean: [0.286], std: [0.353] }, { seed: 1 }), MODEL)

/** The command by absolute paths: jobs run in folders of their own. */
const MNC = mnc.map((word) => (existsSync(word) ? resolve(word) : word)).join(' ')
const SCAN = '--limit 40 --metric loss --sparsity 0.5,0.9'
const shared = { MNC, MODEL, DATA: 'embedded', OPTIONS: SCAN, SHARES: '3', MNC_CACHE: 'off' }
const env = { ...process.env, ...shared }

const shell = (cwd: string, words: readonly string[], more: NodeJS.ProcessEnv = {}): string =>
  execFileSync(words[0]!, words.slice(1), { cwd, env: { ...env, ...more }, encoding: 'utf8', stdio: 'pipe' })

function folder(name: string): string {
  mkdirSync(at(name))
  return at(name)
}

const single = folder('single')
shell(single, ['sh', '-c', `$MNC sensitivity "$MODEL" --data embedded ${SCAN} --threads 1 -o sensitivity.json`])
const wanted = readFileSync(join(single, 'sensitivity.json'), 'utf8')

const sameAsSingle = (cwd: string): void => assert.equal(readFileSync(join(cwd, 'sensitivity.json'), 'utf8'), wanted)

const isMissing = (name: string): string | false =>
  spawnSync(name, ['--version']).status === 0 ? false : `${name} is not installed`

test('make -j', { skip: isMissing('make') }, () => {
  const cwd = folder('make')
  const words = ['make', '-j2', '-f', join(examples, 'Makefile'), 'SHARES=3']
  shell(cwd, words)
  sameAsSingle(cwd)
  assert.match(shell(cwd, words), /Nothing to be done/)
})

test('GNU parallel', { skip: isMissing('parallel') }, () => {
  const cwd = folder('parallel')
  shell(cwd, [join(examples, 'parallel.sh')], { PARALLEL_HOME: cwd })
  sameAsSingle(cwd)
})

const TRAINING = '--limit 48 --batch 8 --epochs 1'

test('Slurm: an array and a job behind it; a training run of two tasks', { skip: withoutSlurm() }, async () => {
  const cwd = folder('slurm')
  const slurm = await startSlurm(folder('slurm-daemons'))
  try {
    const array = sbatch(slurm, cwd, ['--array=1-3', join(examples, 'slurm-shares.sh')], shared)
    assert.deepEqual(readdirSync(join(cwd, 'shares')).sort(), ['1-of-3.json', '2-of-3.json', '3-of-3.json'])
    sbatch(slurm, cwd, [`--dependency=afterok:${array}`, join(examples, 'slurm-merge.sh')], shared)
    sameAsSingle(cwd)
    if (skipped('Open MPI')) return
    const own = { ...shared, OPTIONS: TRAINING }
    // srun gives each task a core of its own, which a machine with one core has not
    sbatch(slurm, cwd, ['--ntasks=2', '--overcommit', join(examples, 'slurm-train.sh')], own)
    assert.match(readFileSync(join(cwd, 'mnc-train.log'), 'utf8'), /2 ranks of Open MPI/)
    assert.ok(existsSync(join(cwd, 'trained.onnx')))
  } finally {
    slurm.stop()
  }
})

test('mpirun', { skip: skipped('Open MPI') }, () => {
  const cwd = folder('mpirun')
  const [MPIRUN = '', ...options] = launcherOf('Open MPI').start(2).slice(0, -2)
  shell(cwd, [join(examples, 'mpirun.sh')], { MPIRUN, MPI_OPTIONS: options.join(' '), OPTIONS: TRAINING })
  shell(cwd, ['sh', '-c', `$MNC train "$MODEL" --data embedded ${TRAINING} --accumulate 2 --threads 1 -o alone.onnx`])
  const bytes = (name: string): Buffer => readFileSync(join(cwd, name))
  assert.ok(bytes('trained.onnx').equals(bytes('alone.onnx')))
})

interface Manifest {
  readonly spec: {
    readonly completions?: number
    readonly template: {
      readonly spec: {
        readonly containers: readonly [
          {
            readonly command: readonly string[]
            readonly args: readonly string[]
            readonly env: readonly { readonly name: string; readonly value: string }[]
          },
        ]
      }
    }
  }
}

const YAML = 'import json, sys, yaml; json.dump(list(yaml.safe_load_all(open(sys.argv[1]))), sys.stdout)'
const withoutYaml = spawnSync('python3', ['-c', 'import yaml']).status === 0 ? false : 'python3-yaml is not installed'

function manifest(name: string): unknown {
  const documents = JSON.parse(shell(examples, ['python3', '-c', YAML, name]))
  assert.equal(documents.length, 1)
  return documents[0]
}

test('Kubernetes: the manifests fit the schema of jobs, and their containers do the work', {
  skip: withoutYaml,
}, () => {
  const schema = JSON.parse(readFileSync('test/examples/kubernetes-job.schema.json', 'utf8'))
  const isJob = new Ajv({ allErrors: true }).compile<Manifest>(schema)
  const cwd = folder('kubernetes')
  for (const name of ['kubernetes-shares.yaml', 'kubernetes-merge.yaml']) {
    const json = manifest(name)
    assert.ok(isJob(json), `${name}: ${JSON.stringify(isJob.errors)}`)
    const { completions } = json.spec
    const [{ command, args, env: given }] = json.spec.template.spec.containers
    const own = Object.fromEntries(given.map((e) => [e.name, e.value]))
    if (completions !== undefined) assert.equal(own.SHARES, String(completions))
    for (let i = 0; i < (completions === undefined ? 1 : 3); i++)
      shell(cwd, [...command, ...args], { ...own, ...shared, JOB_COMPLETION_INDEX: String(i) })
  }
  sameAsSingle(cwd)
  // what the schema is for
  const wrong = manifest('kubernetes-shares.yaml') as { spec: Record<string, unknown> }
  for (const spec of [
    { ...wrong.spec, completionMode: 'NonIndexed' },
    { ...wrong.spec, completions: '8' },
    { ...wrong.spec, completion: 8 },
  ])
    assert.ok(!isJob({ ...wrong, spec }))
})
