/**
 * Machines that are none: network namespaces of this one, joined by a bridge, with links of a given rate (tc tbf; the kernel
 * here has no netem, so that latency is that of the links themselves), and Open MPI between them over TCP. Takes root.
 */
import { execFileSync } from 'node:child_process'
import { writeFileSync } from 'node:fs'
import { join } from 'node:path'

const BRIDGE = 'mncbr'
const NET = '10.77.0'
/** Small, so that messages pass at the rate from their first packets on. */
const BURST = '10kb'

const ip = (...words: readonly string[]): void =>
  void execFileSync('ip', words, { stdio: ['ignore', 'ignore', 'pipe'] })
const space = (i: number): string => `mnc-${i}`

export interface Links {
  /** The command line that starts one rank on each of `ranks` machines. */
  start(ranks: number): readonly string[]
  close(): void
}

/** `rate`: of each link in each direction, as tc has it: 1gbit. null: as fast as they are. */
export function openLinks(machines: number, rate: string | null, folder: string): Links {
  const numbers = Array.from({ length: machines }, (_, i) => i + 1)
  const shape = (prefix: readonly string[], device: string): void => {
    if (rate === null) return
    const words = [
      'tc',
      'qdisc',
      'add',
      'dev',
      device,
      'root',
      'tbf',
      'rate',
      rate,
      'burst',
      BURST,
      'latency',
      '2000ms',
    ]
    execFileSync([...prefix, ...words][0]!, [...prefix, ...words].slice(1))
  }
  ip('link', 'add', BRIDGE, 'type', 'bridge')
  ip('addr', 'add', `${NET}.254/24`, 'dev', BRIDGE)
  ip('link', 'set', BRIDGE, 'up')
  for (const i of numbers) {
    ip('netns', 'add', space(i))
    ip('link', 'add', `mnc-v${i}`, 'type', 'veth', 'peer', 'name', 'eth0', 'netns', space(i))
    ip('link', 'set', `mnc-v${i}`, 'master', BRIDGE, 'up')
    ip('-n', space(i), 'addr', 'add', `${NET}.${i}/24`, 'dev', 'eth0')
    ip('-n', space(i), 'link', 'set', 'eth0', 'up')
    ip('-n', space(i), 'link', 'set', 'lo', 'up')
    shape(['ip', 'netns', 'exec', space(i)], 'eth0')
    shape([], `mnc-v${i}`)
  }
  const agent = join(folder, 'agent.sh')
  /** The last part of the address, in the shell. */
  const host = `$\{host##*.}`
  const enter = `exec ip netns exec mnc-${host} unshare --uts sh -c "hostname mnc-${host}; $*"`
  writeFileSync(agent, `#!/bin/sh\nhost=$1\nshift\n${enter}\n`, { mode: 0o755 })
  return {
    start: (ranks) => [
      ...['mpirun.openmpi', '--allow-run-as-root', '--mca', 'plm_rsh_agent', agent, '--mca', 'btl', 'tcp,self'],
      // all these machines share the cores of one
      ...['--mca', 'mpi_yield_when_idle', '1'],
      ...['--mca', 'btl_tcp_if_include', `${NET}.0/24`, '--mca', 'oob_tcp_if_include', `${NET}.0/24`],
      ...['--host', Array.from({ length: ranks }, (_, i) => `${NET}.${i + 1}:1`).join(), '-n', String(ranks)],
    ],
    close() {
      for (const i of numbers) ip('netns', 'del', space(i))
      ip('link', 'del', BRIDGE)
    },
  }
}
