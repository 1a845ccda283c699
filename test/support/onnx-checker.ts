/** The ONNX project's own checker, if Debian's python3-onnx is installed: an independent opinion on files. */
import { spawnSync } from 'node:child_process'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'

const python = '/usr/bin/python3'
const script = `
import onnx, sys
for path in sys.argv[1:]:
    try: onnx.checker.check_model(path); print('valid')
    except Exception as e: print(' '.join(str(e).split()))`

/** The newest IR version that the installed checker knows; null where there is none. */
export function checkerIr(): number | null {
  const { status, stdout } = spawnSync(python, ['-c', 'import onnx; print(onnx.IR_VERSION)'], { encoding: 'utf8' })
  return status === 0 ? Number(stdout) : null
}

/** What it says of each file: 'valid', or the fault. */
export function checkFiles(files: readonly Uint8Array[]): string[] {
  const folder = mkdtempSync(join(tmpdir(), 'mnc-checker-'))
  try {
    const paths = files.map((bytes, i) => {
      const path = join(folder, `${i}.onnx`)
      writeFileSync(path, bytes)
      return path
    })
    const { status, stdout, stderr } = spawnSync(python, ['-c', script, ...paths], { encoding: 'utf8' })
    if (status !== 0) return files.map(() => stderr)
    return stdout.trim().split('\n')
  } finally {
    rmSync(folder, { recursive: true })
  }
}
