/**
 * The cost of a training step on N ranks (docs/scale.md), and a simulation of it:
 *
 *   step = slowest rank's computing + exchange
 *   exchange = m a + bytes / b
 *
 *   exact   bytes = 2 (N - 1) / N * 4 P, in N - 1 + log2 N messages of 4 P / N        (all-to-all of chunks, all-gather)
 *   fast    bytes = 2 (M - 1) / M * 4 P, in 2 log2 M messages of 4 P / 2, 4 P / 4, ... (halving and doubling of the M ranks)
 *           and, where N > M, 2 * 4 P more in three messages: the others hand their part over and get the sum
 *
 * P floats; a seconds a message, b bytes a second that a link carries in each direction; log2 rounded up, M the largest
 * power of two that is not above N. m: messages one after the other; one of more than 64 KB counts three times, since it is
 * announced and answered first. Below 64 KB on 2 or 3 ranks, fast is a ring: 2 (N - 1) messages of 4 P / N. (Open MPI 4.1)
 * What a rank computes varies from step to step as exp(s z), z normal: of N ranks the slowest counts.
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

/** Bytes up to which Open MPI sends a message over TCP without asking, and up to which few ranks sum in a ring. */
const EAGER = 65_536

/** Messages one after the other, and bytes that each rank sends. */
export function trafficOf({ reduce, ranks, floats, bytes = 4 }: Exchange): readonly [messages: number, bytes: number] {
  const whole = bytes * floats
  const count = (blocks: readonly number[]): number => blocks.reduce((sum, block) => sum + (block > EAGER ? 3 : 1), 0)
  const equal = (messages: number): number => count(Array<number>(messages).fill(whole / ranks))
  const ring = (2 * (ranks - 1) * whole) / ranks
  if (reduce === 'exact') return [equal(ranks - 1 + Math.ceil(Math.log2(ranks))), ring]
  if (ranks < 4 && whole < EAGER) return [equal(2 * (ranks - 1)), ring]
  const rounds = Math.floor(Math.log2(ranks))
  const most = 2 ** rounds
  const halves = Array.from({ length: rounds }, (_, i) => whole / 2 ** (i + 1))
  const own = 2 * count(halves)
  const sent = (2 * (most - 1) * whole) / most
  return most === ranks ? [own, sent] : [own + count([whole / 2, whole / 2, whole]), sent + 2 * whole]
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
