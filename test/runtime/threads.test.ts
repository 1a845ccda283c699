/** Threads of the engine where a process may use fewer cores than the machine has. */
import assert from 'node:assert/strict'
import { execFileSync, spawnSync } from 'node:child_process'
import os from 'node:os'
import test from 'node:test'
import { engineThreads } from '../../src/runtime/threads.ts'
import { evaluated } from '../support/compiled.ts'

const skip =
  os.availableParallelism() < 2 || spawnSync('taskset', ['--version']).status !== 0
    ? 'there is a single core, or no taskset'
    : false

test('a process that may use one core of several gets one thread, and as many as it asks for', { skip }, () => {
  const script = `
    import { engineThreads } from './src/runtime/threads.ts'
    console.log(engineThreads(undefined), engineThreads(0), engineThreads(3))`
  const words = ['-c', '0', process.execPath, ...evaluated(script)]
  assert.equal(execFileSync('taskset', words, { encoding: 'utf8' }), '1 1 3\n')
})

test('a process that may use all cores leaves their number to the engine', () => {
  const isAll = os.availableParallelism() === os.cpus().length
  assert.equal(engineThreads(0), isAll ? 0 : os.availableParallelism())
})
