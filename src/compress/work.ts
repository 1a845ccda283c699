/**
 * The work folder of a run: `compress.json` says what was asked for, `points/NAME/` holds what was made. Everything is
 * written whole or not at all, and a point's facts last, so that a run that ended at any moment goes on from what is there.
 */
import { existsSync } from 'node:fs'
import { mkdir, readdir, rm } from 'node:fs/promises'
import { join } from 'node:path'
import { bugError, usageError } from '../base/errors.ts'
import { readText, writeFileAtomic, writing } from '../base/files.ts'
import { POINT_FILES, type Point } from './point.ts'
import type { RecipeJson } from './recipe-json.ts'

const REQUEST = 'compress.json'
/** What layers cost, by who measured it: the run, or shares of its work. */
export const LAYER_FILES = /^layers\..*json$/
/** How many forms of layers there was time for, where not for all. */
export const LAYERS_WITHIN = 'layers-within.json'

/** What a run was asked for, as far as it takes to ask again. */
export interface Request {
  /** Of everything that points depend on: model, samples, preprocessing, seed, version. */
  readonly identity: string
  /** Path of the float model. */
  readonly model: string
  readonly data: string
  readonly seed: number
  /** Options as they were given, reading, pixels and sizes included. */
  readonly options: Readonly<Record<string, unknown>>
  /** The file that the run was to write. */
  readonly output: string
}

export class Work {
  readonly path: string

  constructor(path: string) {
    this.path = path
  }

  /** What the folder was made for; null where it is empty. */
  async request(): Promise<Request | null> {
    const json = await this.readJson(REQUEST)
    return isRequest(json) ? json : null
  }

  async writeRequest(request: Request): Promise<void> {
    await this.writeJson(REQUEST, request)
  }

  /** Takes away what belongs to another model or other data. */
  async clear(): Promise<void> {
    for (const name of ['points', 'tuning.json', 'latency.json', LAYERS_WITHIN, ...(await this.named(LAYER_FILES))])
      await rm(this.at(name), { recursive: true, force: true })
  }

  at(...names: readonly string[]): string {
    return join(this.path, ...names)
  }

  pointAt(name: string, file: keyof typeof POINT_FILES): string {
    return this.at('points', name, POINT_FILES[file])
  }

  async folderFor(name: string): Promise<string> {
    const folder = this.at('points', name)
    await writing(folder, () => mkdir(folder, { recursive: true }))
    return folder
  }

  /** The point of this name, where it was made of the same. */
  async point(name: string, key: string): Promise<Point | null> {
    const json = await this.readJson(join('points', name, POINT_FILES.facts))
    return isPoint(json) && json.key === key && existsSync(this.pointAt(name, 'file')) ? json : null
  }

  /** The form that was picked for a point made of the same; null where none was. */
  async form(name: string, key: string): Promise<unknown> {
    const json = await this.readJson(join('points', name, POINT_FILES.form))
    return isRecord(json) && json.key === key ? json.form : null
  }

  async writeForm(name: string, key: string, form: string): Promise<void> {
    await this.writeJson(join('points', name, POINT_FILES.form), { key, form })
  }

  async writePoint(point: Point): Promise<void> {
    await this.writeJson(join('points', point.name, POINT_FILES.facts), point)
  }

  /** Of a point that was made. */
  async recipe(name: string): Promise<RecipeJson> {
    const json = await this.readJson(join('points', name, POINT_FILES.recipe))
    if (isRecord(json)) return json
    throw bugError(`${name} has no recipe`)
  }

  /** All that are there, by name. */
  async points(): Promise<readonly Point[]> {
    const folder = this.at('points')
    const names = existsSync(folder) ? (await readdir(folder)).sort() : []
    const found: Point[] = []
    for (const name of names) {
      const json = await this.readJson(join('points', name, POINT_FILES.facts))
      if (isPoint(json)) found.push(json)
    }
    return found
  }

  /** Files of the folder, in order. */
  async named(pattern: RegExp): Promise<readonly string[]> {
    return existsSync(this.path) ? (await readdir(this.path)).filter((name) => pattern.test(name)).sort() : []
  }

  /** null where there is none, or one that is damaged. */
  async readJson(name: string): Promise<unknown> {
    if (!existsSync(this.at(name))) return null
    try {
      return JSON.parse(await readText(this.at(name)))
    } catch {
      return null
    }
  }

  async writeJson(name: string, value: unknown): Promise<void> {
    await writing(this.path, () => mkdir(this.path, { recursive: true }))
    await writeFileAtomic(this.at(name), `${JSON.stringify(value, null, 2)}\n`)
  }
}

/** What the folder was made for; a usage error where it was not made by a run. */
export async function requireRequest(work: Work): Promise<Request> {
  const request = await work.request()
  if (request) return request
  throw usageError(`'${work.path}' is no work folder of mnc compress`, 'give the folder that the run named')
}

const isRecord = (x: unknown): x is Readonly<Record<string, unknown>> => typeof x === 'object' && x !== null

const isRequest = (x: unknown): x is Request =>
  isRecord(x) && 'identity' in x && typeof x.model === 'string' && typeof x.data === 'string' && isRecord(x.options)

const isPoint = (x: unknown): x is Point =>
  isRecord(x) && typeof x.name === 'string' && typeof x.bytes === 'number' && isRecord(x.held)
