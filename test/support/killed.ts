/** Runs of `mnc compress` that are killed (SIGKILL) at random moments and called again, against one that is not. */
import assert from 'node:assert/strict'
import { spawn } from 'node:child_process'
import { copyFileSync, mkdirSync, readdirSync, readFileSync } from 'node:fs'
import { basename, dirname, join } from 'node:path'
import { Rng } from '../../src/base/rng.ts'

export interface Kills {
  /** The command line of mnc, without a model's name for the output. */
  readonly command: readonly string[]
  /** Folder of the files of both runs. */
  readonly folder: string
  readonly kills: number
  readonly seed: number
}

const filesIn = (folder: string): number =>
  readdirSync(folder, { recursive: true, withFileTypes: true }).filter((e) => e.isFile()).length

/** Exit code; null where it was killed, as soon as `isTime` says so. */
function run(words: readonly string[], isTime?: () => boolean): Promise<{ code: number | null; stderr: string }> {
  const child = spawn(words[0]!, words.slice(1), { stdio: ['ignore', 'ignore', 'pipe'] })
  let stderr = ''
  child.stderr.on('data', (d) => {
    stderr += d
  })
  const timer = setInterval(() => {
    if (isTime?.()) child.kill('SIGKILL')
  }, 10)
  return new Promise((done) =>
    child.on('close', (code) => {
      clearInterval(timer)
      done({ code, stderr })
    }),
  )
}

/** Asserts that both runs end with the same bytes; returns how many kills came before the run's end. */
export async function killedAndCalledAgain({ command, folder, kills, seed }: Kills): Promise<number> {
  const at = (name: string): string => join(folder, name)
  const to = (name: string): string[] => [...command, '-o', at(`${name}.onnx`)]
  const begun = performance.now()
  const first = await run(to('whole'))
  assert.equal(first.code, 0, first.stderr)
  const took = performance.now() - begun
  // what time is left, how many steps it holds and which form is the fastest is measured: both are to keep to the same plan
  const [work, whole] = [at('killed.work'), at('whole.work')]
  const measured = readdirSync(whole, { recursive: true, encoding: 'utf8' }).filter((f) =>
    ['tuning.json', 'form.json', 'layers-within.json'].includes(basename(f)),
  )
  assert.ok(measured.length > 1)
  for (const file of measured) {
    mkdirSync(dirname(join(work, file)), { recursive: true })
    copyFileSync(join(whole, file), join(work, file))
  }
  const rng = new Rng(seed)
  let killed = 0
  for (let i = 0; i < kills; i++) {
    const end = performance.now() + rng.uniform(0.15, 0.9) * (took / Math.max(1, kills / 2))
    // the first when half of the work is written, however busy the machine is
    const half = (): boolean => filesIn(work) >= filesIn(whole) / 2
    const { code, stderr } = await run(to('killed'), i === 0 ? half : () => performance.now() > end)
    if (code === null) killed++
    else assert.equal(code, 0, stderr)
  }
  const last = await run(to('killed'))
  assert.equal(last.code, 0, last.stderr)
  for (const end of ['onnx', 'recipe.json'])
    assert.equal(
      readFileSync(at(`killed.${end}`), 'latin1').replaceAll('killed', 'whole'),
      readFileSync(at(`whole.${end}`), 'latin1'),
      end,
    )
  return killed
}
