/** Goals and times as people write them. */
import assert from 'node:assert/strict'
import test from 'node:test'
import { MncError } from '../../src/base/errors.ts'
import { parseGoal, parseTime, showTime } from '../../src/compress/goal.ts'

test('goals with their units', () => {
  for (const [text, kind, most] of [
    ['bytes=100KB', 'bytes', 100_000],
    ['bytes=1.5 MiB', 'bytes', 1.5 * 2 ** 20],
    ['bytes=70000', 'bytes', 70_000],
    ['bytes=100K', 'bytes', 100_000],
    ['macs=10M', 'macs', 1e7],
    ['latency=2ms', 'latency', 2],
    ['latency=500us', 'latency', 0.5],
    ['score=0.01', 'score', 0.01],
  ] as const)
    assert.deepEqual(parseGoal(text), { kind, most }, text)
})

test('times with their units', () => {
  assert.deepEqual(['90', '90s', '30m', '1.5h'].map(parseTime), [90, 90, 1800, 5400])
  assert.deepEqual(['90', '30m'].map(showTime), ['90 s', '30m'])
})

const says =
  (what: RegExp) =>
  (e: unknown): boolean =>
    e instanceof MncError && what.test(e.describe())

test('what is no goal or no time is refused with examples', () => {
  for (const text of ['100KB', 'bytes', 'bytes=', 'bytes=0', 'bytes=10X', 'size=10KB', 'macs=-3', 'bytes=1=2'])
    assert.throws(() => parseGoal(text), says(/bytes=100KB/), text)
  for (const text of ['', '0', 'soon', '3 days']) assert.throws(() => parseTime(text), says(/30m/), text)
})
