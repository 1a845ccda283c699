/**
 * Preloaded (`node --import`): one call of a kind fails, as MNC_FAIL says: KIND:N:CODE, the N-th from 0. At the end of the
 * process the number of calls of each kind goes to the file MNC_FAIL_COUNTS, where that is set.
 *
 * Kinds: write, rename, open (for writing), message (to or from a loader thread).
 */
import fs from 'node:fs'
import { syncBuiltinESMExports } from 'node:module'
import { isMainThread, MessagePort, Worker } from 'node:worker_threads'

const [kind, index, code] = (process.env.MNC_FAIL ?? '').split(':')
const counts = { write: 0, rename: 0, open: 0, message: 0 }
const { openSync, writeFileSync } = fs

function check(what) {
  if (counts[what]++ !== Number(index) || what !== kind) return
  throw Object.assign(new Error(`${code}: made to fail, ${what}`), { code, errno: -28, syscall: what })
}

function wrap(owner, name, what, applies = () => true) {
  const original = owner[name]
  owner[name] = function (...args) {
    if (applies(args)) check(what)
    return original.apply(this, args)
  }
}

function wrapAsync(owner, name, what, applies = () => true) {
  const original = owner[name]
  owner[name] = async function (...args) {
    if (applies(args)) check(what)
    return original.apply(this, args)
  }
}

const forWriting = ([, flags]) => (typeof flags === 'number' ? (flags & 3) !== 0 : flags !== undefined && flags !== 'r')
const toFile = ([fd]) => typeof fd !== 'number' || fd > 2

wrap(fs, 'writeSync', 'write', toFile)
wrap(fs, 'writeFileSync', 'write')
wrap(fs, 'renameSync', 'rename')
wrap(fs, 'openSync', 'open', forWriting)
wrapAsync(fs.promises, 'writeFile', 'write')
wrapAsync(fs.promises, 'rename', 'rename')
wrapAsync(fs.promises, 'open', 'open', forWriting)
const handle = await fs.promises.open(import.meta.filename)
for (const name of ['write', 'writeFile', 'appendFile', 'sync', 'datasync'])
  wrapAsync(Object.getPrototypeOf(handle), name, 'write')
await handle.close()
wrap(Worker.prototype, 'postMessage', 'message')
if (!isMainThread) wrap(MessagePort.prototype, 'postMessage', 'message')
syncBuiltinESMExports()

if (process.env.MNC_FAIL_COUNTS && isMainThread)
  process.on('exit', () => {
    const fd = openSync(process.env.MNC_FAIL_COUNTS, 'w')
    writeFileSync(fd, JSON.stringify(counts))
  })
