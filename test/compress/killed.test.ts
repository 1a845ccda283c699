/** A run that is killed (SIGKILL) at random moments and called again ends with the same bytes as one that is not. */
import assert from 'node:assert/strict'
import { spawn } from 'node:child_process'
import { copyFileSync, mkdirSync, readFileSync } from 'node:fs'
import { resolve } from 'node:path'
import test from 'node:test'
import { fileURLToPath } from 'node:url'
import { Rng } from '../../src/base/rng.ts'
import { at, netAndData } from './nets.ts'

const cli = resolve(fileURLToPath(new URL('../../src/cli.ts', import.meta.url)))

/** Exit code; null where it was killed after `ms`. */
function run(args: readonly string[], ms: number | null): Promise<{ code: number | null; stderr: string }> {
  const child = spawn(process.execPath, ['--import', 'tsx', cli, ...args], { stdio: ['ignore', 'ignore', 'pipe'] })
  let stderr = ''
  child.stderr.on('data', (d) => {
    stderr += d
  })
  const timer = ms === null ? null : setTimeout(() => child.kill('SIGKILL'), ms)
  return new Promise((done) =>
    child.on('close', (code) => {
      if (timer) clearTimeout(timer)
      done({ code, stderr })
    }),
  )
}

const KILLS = Number(process.env.MNC_KILLS ?? 3)

test(`killed at ${KILLS} random moments, the same command ends with the same bytes`, async () => {
  const { net, data } = await netAndData()

  const common = [
    ...['compress', net, '--data', data, '--goal', 'macs=100K', '--time', '1s', '--effort', 'fast', '--batch', '10'],
    ...['--limit', '40', '--workers', '0', '--threads', '1'],
  ]
  const to = (name: string): string[] => [...common, '-o', at(`${name}.onnx`)]
  const begun = performance.now()
  const whole = await run(to('whole'), null)
  assert.equal(whole.code, 0, whole.stderr)
  const took = performance.now() - begun
  // how many steps a second holds is measured: both are to keep to the same plan
  mkdirSync(at('killed.work'))
  copyFileSync(at('whole.work/tuning.json'), at('killed.work/tuning.json'))
  const rng = new Rng(Number(process.env.MNC_SEED ?? 3))
  let killed = 0
  for (let i = 0; i < KILLS; i++) {
    const { code, stderr } = await run(to('killed'), rng.uniform(0.15, 0.9) * took)
    if (code === null) killed++
    else assert.equal(code, 0, stderr)
  }
  assert.ok(killed > 0)
  const last = await run(to('killed'), null)
  assert.equal(last.code, 0, last.stderr)
  for (const end of ['onnx', 'recipe.json'])
    assert.equal(
      readFileSync(at(`killed.${end}`), 'latin1').replaceAll('killed', 'whole'),
      readFileSync(at(`whole.${end}`), 'latin1'),
      end,
    )
})
