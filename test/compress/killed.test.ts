/** A run that is killed (SIGKILL) at random moments and called again ends with the same bytes as one that is not. */
import assert from 'node:assert/strict'
import test from 'node:test'
import { cli } from '../support/compiled.ts'
import { killedAndCalledAgain } from '../support/killed.ts'
import { folder, netAndData } from './nets.ts'

const KILLS = Number(process.env.MNC_KILLS ?? 2)

test(`killed at ${KILLS} random moments, the same command ends with the same bytes`, async () => {
  const { net, data } = await netAndData()
  const command = [
    ...[
      process.execPath,
      cli,
      'compress',
      net,
      '--data',
      data,
      '--goal',
      'macs=100K',
      '--time',
      '1s',
      '--effort',
      'fast',
    ],
    ...['--batch', '10', '--limit', '40', '--workers', '0', '--threads', '1'],
  ]
  const killed = await killedAndCalledAgain({
    ...{ command, folder, kills: KILLS, seed: Number(process.env.MNC_SEED ?? 3) },
  })
  assert.ok(killed > 0)
})
