/**
 * The cost of a training step on N ranks (docs/scale.md), and a simulation of it:
 *
 *   step = slowest rank's computing + exchange + small gathers
 *   exchange, exact = (N - 1 + ceil(log2 N)) a + 2 (N - 1) / N * 4 P / b + c P
 *   exchange, fast  = 2 log2(N) a + 2 (N - 1) / N * 4 P / b + c P            (reduce-scatter and all-gather by halves)
 *   gathers         = 3 ceil(log2 N) a
 *
 * P floats; a seconds a message, b bytes a second of a link in each direction, c seconds a float for copying and adding.
 * What a rank computes varies from step to step as exp(s z), z normal: of N ranks the slowest counts.
 */
import { Rng } from '../../src/base/rng.ts'

export interface Link {
  /** Seconds a message. */
  readonly latency: number
  /** Bytes a second, each direction. */
  readonly bandwidth: number
  /** Seconds a float that is summed, by how it is. */
  readonly perFloat: Readonly<Record<'exact' | 'fast', number>>
}

export interface Step {
  readonly reduce: 'exact' | 'fast'
  readonly ranks: number
  readonly floats: number
  /** Of computing, the median, and the deviation of its logarithm. */
  readonly seconds: number
  readonly spread: number
  /** Bytes of a float on the way; 4. */
  readonly bytes?: number
  /** Steps between exchanges; 1. */
  readonly every?: number
}

const rounds = (ranks: number): number => Math.ceil(Math.log2(ranks))

export function exchangeSeconds(
  link: Link,
  { reduce, ranks, floats, bytes = 4 }: Omit<Step, 'seconds' | 'spread'>,
): number {
  if (ranks === 1) return 0
  const messages = reduce === 'exact' ? ranks - 1 + rounds(ranks) : 2 * rounds(ranks)
  const moved = (2 * (ranks - 1) * bytes * floats) / ranks
  return messages * link.latency + moved / link.bandwidth + link.perFloat[reduce] * floats
}

export const gatherSeconds = (link: Link, ranks: number): number => 3 * rounds(ranks) * link.latency

/** Mean seconds of a step, over `steps` simulated ones. */
export function simulate(link: Link, step: Step, steps = 400, seed = 0): number {
  const { ranks, seconds, spread, every = 1 } = step
  const rng = new Rng(seed, ranks)
  const exchange = exchangeSeconds(link, step) + (ranks > 1 ? gatherSeconds(link, ranks) : 0)
  let total = 0
  for (let i = 0; i < steps; i += every) {
    let slowest = 0
    for (let r = 0; r < ranks; r++) {
      let own = 0
      for (let k = 0; k < every; k++) own += seconds * Math.exp(spread * rng.normal())
      slowest = Math.max(slowest, own)
    }
    total += slowest + exchange
  }
  return total / steps
}

/** What a step takes on one rank, on average, over what it takes on N with as much work each. */
export function efficiency(link: Link, step: Step, steps = 400): number {
  return simulate(link, { ...step, ranks: 1 }, 4000) / simulate(link, step, steps)
}

/**
 * Young's and Daly's time between checkpoints, sqrt(2 C M), and the share of time that then goes to writing them, to repeated
 * steps and to starting again: C seconds a checkpoint, R to start, M between failures of any of the machines.
 */
export function checkpoints(write: number, restart: number, between: number): { every: number; lost: number } {
  const every = Math.sqrt(2 * write * between)
  return { every, lost: write / every + (every / 2 + restart) / between }
}
