/** A run that is killed (SIGKILL) at random moments and called again ends with the same bytes as one that is not. */
import assert from 'node:assert/strict'
import { spawn } from 'node:child_process'
import { copyFileSync, mkdirSync, readdirSync, readFileSync } from 'node:fs'
import { basename, dirname, join } from 'node:path'
import test from 'node:test'
import { Rng } from '../../src/base/rng.ts'
import { cli } from '../support/compiled.ts'
import { at, netAndData } from './nets.ts'

const filesIn = (folder: string): number =>
  readdirSync(folder, { recursive: true, withFileTypes: true }).filter((e) => e.isFile()).length

/** Exit code; null where it was killed, as soon as `isTime` says so. */
function run(args: readonly string[], isTime?: () => boolean): Promise<{ code: number | null; stderr: string }> {
  const child = spawn(process.execPath, [cli, ...args], { stdio: ['ignore', 'ignore', 'pipe'] })
  let stderr = ''
  child.stderr.on('data', (d) => {
    stderr += d
  })
  const timer = setInterval(() => {
    if (isTime?.()) child.kill('SIGKILL')
  }, 10)
  return new Promise((done) =>
    child.on('close', (code) => {
      clearInterval(timer)
      done({ code, stderr })
    }),
  )
}

const KILLS = Number(process.env.MNC_KILLS ?? 2)

test(`killed at ${KILLS} random moments, the same command ends with the same bytes`, async () => {
  const { net, data } = await netAndData()

  const common = [
    ...['compress', net, '--data', data, '--goal', 'macs=100K', '--time', '1s', '--effort', 'fast', '--batch', '10'],
    ...['--limit', '40', '--workers', '0', '--threads', '1'],
  ]
  const to = (name: string): string[] => [...common, '-o', at(`${name}.onnx`)]
  const begun = performance.now()
  const first = await run(to('whole'))
  assert.equal(first.code, 0, first.stderr)
  const took = performance.now() - begun
  // how many steps a second holds and which form is the fastest is measured: both are to keep to the same plan
  const [work, whole] = [at('killed.work'), at('whole.work')]
  const measured = readdirSync(whole, { recursive: true, encoding: 'utf8' }).filter((f) =>
    ['tuning.json', 'form.json'].includes(basename(f)),
  )
  assert.ok(measured.length > 1)
  for (const file of measured) {
    mkdirSync(dirname(join(work, file)), { recursive: true })
    copyFileSync(join(whole, file), join(work, file))
  }
  const rng = new Rng(Number(process.env.MNC_SEED ?? 3))
  let killed = 0
  for (let i = 0; i < KILLS; i++) {
    const end = performance.now() + rng.uniform(0.15, 0.9) * took
    // the first when half of the work is written, however busy the machine is
    const half = (): boolean => filesIn(work) >= filesIn(whole) / 2
    const { code, stderr } = await run(to('killed'), i === 0 ? half : () => performance.now() > end)
    if (code === null) killed++
    else assert.equal(code, 0, stderr)
  }
  assert.ok(killed > 0)
  const last = await run(to('killed'))
  assert.equal(last.code, 0, last.stderr)
  for (const end of ['onnx', 'recipe.json'])
    assert.equal(
      readFileSync(at(`killed.${end}`), 'latin1').replaceAll('killed', 'whole'),
      readFileSync(at(`whole.${end}`), 'latin1'),
      end,
    )
})
