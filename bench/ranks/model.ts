/**
 * The cost of a training step on N ranks (docs/scale.md), and a simulation of it:
 *
 *   step = slowest rank's computing + exchange
 *   exchange, exact = (N - 1 + log2 N) a + 2 (N - 1) / N * 4 P / b      (all-to-all of chunks, all-gather)
 *   exchange, fast  = 2 log2 N a + 2 (N - 1) / N * 4 P / b              (halves; where N is no power of 2, 2 * 4 P / b more)
 *
 * P floats; a seconds a message, b bytes a second that a link carries in each direction; log2 rounded up. What a rank
 * computes varies from step to step as exp(s z), z normal: of N ranks the slowest counts.
 */
import { Rng } from '../../src/base/rng.ts'

export type Reduce = 'exact' | 'fast'

export interface Link {
  /** Seconds a message. */
  readonly latency: number
  /** Bytes a second, each direction. */
  readonly bandwidth: number
}

export interface Exchange {
  readonly reduce: Reduce
  readonly ranks: number
  readonly floats: number
  /** Bytes of a float on the way; 4. */
  readonly bytes?: number
}

/** Messages one after the other, and bytes that each rank sends. */
export function trafficOf({ reduce, ranks, floats, bytes = 4 }: Exchange): readonly [messages: number, bytes: number] {
  const rounds = Math.ceil(Math.log2(ranks))
  const whole = bytes * floats
  const both = (2 * (ranks - 1) * whole) / ranks
  if (reduce === 'exact') return [ranks - 1 + rounds, both]
  return [2 * rounds, Number.isInteger(Math.log2(ranks)) ? both : both + 2 * whole]
}

export function exchangeSeconds({ latency, bandwidth }: Link, exchange: Exchange): number {
  const [messages, bytes] = trafficOf(exchange)
  return messages * latency + bytes / bandwidth
}

export interface Computing {
  readonly ranks: number
  /** Of a step, the median, and the deviation of its logarithm. */
  readonly seconds: number
  readonly spread: number
  /** Steps between exchanges; 1. */
  readonly every?: number
}

/** Mean seconds of a step, over `steps` simulated ones; `exchange`: seconds of one. */
export function simulate(
  { ranks, seconds, spread, every = 1 }: Computing,
  exchange: number,
  steps = 400,
  seed = 0,
): number {
  const rng = new Rng(seed, ranks)
  let total = 0
  let done = 0
  while (done < steps) {
    let slowest = 0
    for (let r = 0; r < ranks; r++) {
      let own = 0
      for (let k = 0; k < every; k++) own += seconds * Math.exp(spread * rng.normal())
      slowest = Math.max(slowest, own)
    }
    total += slowest + exchange
    done += every
  }
  return total / done
}

/** What a step takes on one rank, on average, over what it takes on N with as much work each. */
export function efficiency(computing: Computing, exchange: number, steps = 400): number {
  return simulate({ ...computing, ranks: 1 }, 0, 4000) / simulate(computing, exchange, steps)
}

/**
 * Young's and Daly's time between checkpoints, sqrt(2 C M), and the share of time that then goes to writing them, to repeated
 * steps and to starting again: C seconds a checkpoint, R to start, M between failures of any of the machines.
 */
export function checkpoints(write: number, restart: number, between: number): { every: number; lost: number } {
  const every = Math.sqrt(2 * write * between)
  return { every, lost: write / every + (every / 2 + restart) / between }
}
