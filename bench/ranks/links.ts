/**
 * Machines that are none: network namespaces of this one, with links of a given rate (tc tbf) and latency (relay.c: the
 * kernel here has no netem), and Open MPI between them over TCP. Takes root, and gcc for latency.
 */
import {
  type ChildProcess,
  type ExecFileSyncOptionsWithStringEncoding,
  execFileSync,
  spawn,
  spawnSync,
} from 'node:child_process'
import { once } from 'node:events'
import { writeFileSync } from 'node:fs'
import { join } from 'node:path'

const BRIDGE = 'mncbr'
const NET = '10.77.0'
/** Of this machine on that net, from where mpirun starts the ranks. */
const HERE = `${NET}.254/24`
/** Small, so that messages pass at the rate from their first packets on, but what a link sends within the timer's reach. */
const BURST = { least: 10_000, seconds: 250e-6 }
const PINGS = 51
/**
 * As machines of a cluster have it: windows stay open from one exchange to the next, and are wide from the start. With what
 * Linux does by default, each exchange after a pause begins with ten packets, and takes half as long again at 20 Mbit/s.
 */
const TCP = { tcp_slow_start_after_idle: 0, tcp_rmem: '4096 4194304 33554432', tcp_wmem: '4096 4194304 33554432' }

const quiet: ExecFileSyncOptionsWithStringEncoding = { stdio: ['ignore', 'pipe', 'pipe'], encoding: 'utf8' }
const ip = (...words: readonly string[]): string => execFileSync('ip', words, quiet)
const space = (i: number): string => `mnc-${i}`
const outer = (i: number): string => `mnc-v${i}`

/** Takes away what there is of them, also of a run that was stopped. */
function clear(numbers: readonly number[]): void {
  const spaces = numbers.map((i) => ['netns', 'del', space(i)])
  const devices = [BRIDGE, ...numbers.map(outer)].map((name) => ['link', 'del', name])
  for (const words of [...spaces, ...devices]) spawnSync('ip', words, { stdio: 'ignore' })
}

export interface Speed {
  /** Of each link in each direction, in Mbit/s; null: as fast as they are. */
  readonly rate: number | null
  /** One way, in milliseconds; null: that of the links themselves. */
  readonly latency: number | null
}

export interface Links {
  /** Median of pings between two machines, in milliseconds; null without latency. */
  readonly ping: number | null
  /** The command line that starts one rank on each of `ranks` machines, with so many connections between any two. */
  start(ranks: number, connections: number): readonly string[]
  close(): void
}

export async function openLinks(machines: number, { rate, latency }: Speed, folder: string): Promise<Links> {
  const numbers = Array.from({ length: machines }, (_, i) => i + 1)
  const inside = (i: number, ...words: readonly string[]): string => ip('netns', 'exec', space(i), ...words)
  const shaping = (device: string): readonly string[] => {
    const burst = Math.max(BURST.least, ((rate! * 1e6) / 8) * BURST.seconds)
    const bucket = ['tbf', 'rate', `${rate}mbit`, 'burst', String(Math.round(burst)), 'latency', '2000ms']
    return ['tc', 'qdisc', 'add', 'dev', device, 'root', ...bucket]
  }
  clear(numbers)
  if (latency === null) ip('link', 'add', BRIDGE, 'type', 'bridge')
  else ip('link', 'add', BRIDGE, 'type', 'veth', 'peer', 'name', outer(0))
  ip('addr', 'add', HERE, 'dev', BRIDGE)
  ip('link', 'set', BRIDGE, 'up')
  if (latency !== null) ip('link', 'set', outer(0), 'up')
  for (const i of numbers) {
    ip('netns', 'add', space(i))
    ip('link', 'add', outer(i), 'type', 'veth', 'peer', 'name', 'eth0', 'netns', space(i))
    if (latency === null) ip('link', 'set', outer(i), 'master', BRIDGE)
    ip('link', 'set', outer(i), 'up')
    ip('-n', space(i), 'addr', 'add', `${NET}.${i}/24`, 'dev', 'eth0')
    ip('-n', space(i), 'link', 'set', 'eth0', 'up')
    ip('-n', space(i), 'link', 'set', 'lo', 'up')
    ip('-n', space(i), 'route', 'change', `${NET}.0/24`, 'dev', 'eth0', 'congctl', 'cubic')
    const settings = Object.entries(TCP).map(([name, value]) => `echo ${value} > /proc/sys/net/ipv4/${name}`)
    inside(i, 'sh', '-c', settings.join(' && '))
    if (rate === null) continue
    inside(i, ...shaping('eth0'))
    const [command = '', ...words] = shaping(outer(i))
    execFileSync(command, words)
  }
  const relay = latency === null ? null : new Relay(folder, [0, ...numbers].map(outer))
  const ping = relay && (await relay.hold(latency!, () => inside(1, ...relay.ping(`${NET}.2`))))
  const agent = join(folder, 'agent.sh')
  /** The last part of the address, in the shell. */
  const host = `$\{host##*.}`
  const enter = `exec ip netns exec mnc-${host} unshare --uts sh -c "hostname mnc-${host}; $*"`
  writeFileSync(agent, `#!/bin/sh\nhost=$1\nshift\n${enter}\n`, { mode: 0o755 })
  return {
    ping,
    start: (ranks, connections) => [
      ...['mpirun.openmpi', '--allow-run-as-root', '--mca', 'plm_rsh_agent', agent, '--mca', 'btl', 'tcp,self'],
      // all these machines share the cores of one
      ...['--mca', 'mpi_yield_when_idle', '1', '--mca', 'btl_tcp_links', String(connections)],
      ...['--mca', 'btl_tcp_if_include', `${NET}.0/24`, '--mca', 'oob_tcp_if_include', `${NET}.0/24`],
      ...['--host', Array.from({ length: ranks }, (_, i) => `${NET}.${i + 1}:1`).join(), '-n', String(ranks)],
    ],
    close() {
      relay?.close()
      clear(numbers)
    },
  }
}

/** relay.c between devices. */
class Relay {
  readonly #program: string
  readonly #devices: readonly string[]
  #process: ChildProcess | null = null

  constructor(folder: string, devices: readonly string[]) {
    this.#program = join(folder, 'relay')
    this.#devices = devices
    execFileSync('gcc', ['-O2', '-o', this.#program, join(import.meta.dirname, 'relay.c')])
  }

  /** Holds packets back so that half a ping takes so many milliseconds; what `ping` then finds. */
  async hold(latency: number, ping: () => string): Promise<number> {
    const milliseconds = (): number => Number(ping()) / 1000
    await this.#start(latency)
    // what the way takes besides
    const besides = milliseconds() / 2 - latency
    await this.#start(Math.max(0, latency - besides))
    return milliseconds()
  }

  /** The command line for the median of pings. */
  ping(address: string): readonly string[] {
    return [this.#program, 'ping', address, String(PINGS)]
  }

  close(): void {
    this.#process?.kill()
  }

  async #start(milliseconds: number): Promise<void> {
    const before = this.#process
    before?.kill()
    if (before) await once(before, 'exit')
    const words = [String(1000 * milliseconds), ...this.#devices]
    const relay = spawn(this.#program, words, { stdio: ['ignore', 'pipe', 'inherit'] })
    this.#process = relay
    await once(relay.stdout, 'data')
  }
}
