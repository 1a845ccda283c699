/**
 * A rank of bench/ranks/scale.ts: exchanges vectors as a training step does, and steps whose computing is a wait, so that
 * more ranks than cores do not take each other's time. Rank 0 prints seconds.
 */
import { Rng } from '../../src/base/rng.ts'
import { launched } from '../../src/ranks/launched.ts'
import { MpiGroup } from '../../src/ranks/mpi.ts'
import { SharedSum } from '../../src/train/step/shared-sum.ts'
import type { Asked, Measured } from './scale.ts'

const { exchanges, steps }: Asked = JSON.parse(process.argv[2]!)
const group = await MpiGroup.open(launched()!)
const none = new Float32Array(0)
/** Seconds, and how much they vary: ranks come to an exchange one after the other, as in a step. */
const PAUSE = { seconds: 0.1, spread: 0.05 }

const sumOf = (reduce: 'exact' | 'fast', floats: number) => {
  const sum = new SharedSum(group, reduce, floats, none)
  const values = new Float32Array(floats).fill(1 / 3)
  return (): void => {
    sum.begin()
    sum.add(values, null)
    sum.end(values, null)
    values.fill(1 / 3)
  }
}
/** Milliseconds, the same for all processes of this machine. */
const clock = (): number => performance.timeOrigin + performance.now()
const since = (start: number): number => (performance.now() - start) / 1000

const idle = new Int32Array(new SharedArrayBuffer(4))
const wait = (seconds: number): void => void Atomics.wait(idle, 0, 0, 1000 * seconds)

const measured: Measured = {
  exchanges: exchanges.map(({ reduce, floats, rounds }) => {
    const exchange = sumOf(reduce, floats)
    exchange()
    const rng = new Rng(0, group.rank)
    let sum = 0
    for (let i = 0; i < rounds; i++) {
      group.gather([0])
      // the links are idle before the exchange of a step, too
      wait(PAUSE.seconds * Math.exp(PAUSE.spread * rng.normal()))
      const start = clock()
      exchange()
      const times = group.gather([start, clock()])
      // what the last one to come waits for
      sum += (Math.max(...times.map(([, end]) => end!)) - Math.max(...times.map(([begin]) => begin!))) / 1000
    }
    return sum / rounds
  }),
  steps: steps.map(({ reduce, floats, rounds, seconds, spread, seed }) => {
    const exchange = sumOf(reduce, floats)
    const rng = new Rng(seed, group.rank)
    exchange()
    group.gather([0])
    const start = performance.now()
    for (let i = 0; i < rounds; i++) {
      wait(seconds * Math.exp(spread * rng.normal()))
      exchange()
    }
    return since(start) / rounds
  }),
}
if (group.rank === 0) console.log(JSON.stringify(measured))
group.close()
