/** Slurm on the loopback: a controller and one node, in a folder of their own, without authentication and without containers. */
import { type ChildProcess, execFileSync, spawn, spawnSync } from 'node:child_process'
import { mkdirSync, openSync, readFileSync, writeFileSync } from 'node:fs'
import { createServer } from 'node:net'
import { cpus, hostname } from 'node:os'
import { join } from 'node:path'

/** Why tests of it are skipped; false where they are not. */
export function withoutSlurm(): string | false {
  if (process.getuid?.() !== 0) return 'slurmd takes root'
  const isThere = ['slurmctld', 'slurmd', 'sbatch'].every((name) => spawnSync(name, ['-V']).error === undefined)
  return isThere ? false : 'Slurm is not installed'
}

export interface Slurm {
  /** For commands that speak to it. */
  readonly env: NodeJS.ProcessEnv
  stop(): void
}

const START_MS = 30_000

export async function startSlurm(folder: string): Promise<Slurm> {
  const at = (name: string): string => join(folder, name)
  for (const name of ['state', 'spool']) mkdirSync(at(name))
  const host = hostname().split('.')[0]!
  const [controller, node] = [await freePort(), await freePort()]
  const lines = [
    ...['ClusterName=test', `SlurmctldHost=${host}(127.0.0.1)`, 'SlurmUser=root'],
    ...[`SlurmctldPort=${controller}`, `SlurmdPort=${node}`, 'AuthType=auth/none', 'CredType=cred/none'],
    ...[`StateSaveLocation=${at('state')}`, `SlurmdSpoolDir=${at('spool')}`],
    ...[`SlurmctldPidFile=${at('controller.pid')}`, `SlurmdPidFile=${at('node.pid')}`],
    ...['ProctrackType=proctrack/linuxproc', 'TaskPlugin=task/none', 'SwitchType=switch/none', 'ReturnToService=2'],
    ...['SchedulerParameters=sched_interval=1,batch_sched_delay=0', 'SelectType=select/cons_tres'],
    ...['SelectTypeParameters=CR_Core', `NodeName=${host} NodeAddr=127.0.0.1 CPUs=${cpus().length} State=UNKNOWN`],
    `PartitionName=all Nodes=${host} Default=YES State=UP`,
  ]
  writeFileSync(at('slurm.conf'), `${lines.join('\n')}\n`)
  const env = { ...process.env, SLURM_CONF: at('slurm.conf') }
  const daemon = (name: string): ChildProcess =>
    spawn(name, ['-D', '-f', at('slurm.conf')], { env, stdio: ['ignore', ...logOf(at(`${name}.log`))] })
  const daemons = [daemon('slurmctld'), daemon('slurmd')]
  const stop = (): void => {
    for (const d of daemons.reverse()) d.kill()
  }
  const isIdle = (): boolean =>
    spawnSync('sinfo', ['-h', '-o', '%t'], { env, encoding: 'utf8', timeout: 5000 }).stdout.trim() === 'idle'
  const begun = performance.now()
  while (!isIdle()) {
    if (performance.now() - begun > START_MS) {
      stop()
      throw new Error(`Slurm does not start: ${readFileSync(at('slurmctld.log'), 'utf8')}`)
    }
    await new Promise((done) => setTimeout(done, 200))
  }
  return { env, stop }
}

const logOf = (path: string): [number, number] => {
  const file = openSync(path, 'w')
  return [file, file]
}

const freePort = (): Promise<number> =>
  new Promise((done, fail) => {
    const server = createServer()
    server.on('error', fail)
    server.listen(0, '127.0.0.1', () => {
      const address = server.address()
      const port = typeof address === 'object' && address ? address.port : 0
      server.close(() => done(port))
    })
  })

/** Submits a script and waits for its end. */
export function sbatch(slurm: Slurm, cwd: string, args: readonly string[], env: NodeJS.ProcessEnv): string {
  return execFileSync('sbatch', ['--parsable', '--wait', ...args], {
    ...{ cwd, env: { ...slurm.env, ...env }, encoding: 'utf8', timeout: 120_000 },
  }).trim()
}
