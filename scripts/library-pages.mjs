/**
 * The library's reference: pages that TypeDoc makes of the declarations that the build writes, with their comments. Wrong are an
 * export without a comment, and a link of a comment that leads nowhere.
 */
import './typedoc-compiler.mjs'

const { Application, JSX, Logger, LogLevel, RendererEvent } = await import('typedoc')

const options = {
  entryPoints: ['dist/index.d.ts', 'dist/web/index.d.ts'],
  tsconfig: 'site/tsconfig.json',
  name: 'mnc, the library',
  readme: 'none',
  disableSources: true,
  hideGenerator: true,
  excludePrivate: true,
  excludeInternal: true,
  includeVersion: true,
  disableGit: true,
  validation: { invalidLink: true, invalidPath: true, notDocumented: false, notExported: false, rewrittenLink: true },
}

/** Keeps what TypeDoc finds wrong. */
class Faults extends Logger {
  list = []
  log(message, level) {
    if (level >= LogLevel.Warn) this.list.push(message)
  }
}

/**
 * Writes OUT/index.html and what it leads to. `home`: where the documents are, from OUT. Returns what the site's search has to
 * know, pages named from OUT, and what is wrong.
 */
export async function writeLibraryPages(out, home) {
  const app = await Application.bootstrap(options)
  const logger = new Faults()
  app.logger = logger
  const faults = logger.list
  const project = await app.convert()
  if (!project) return { sections: [], faults }
  app.validate(project)
  // the same thing under another name too: its page is the other's
  const all = project.children.flatMap((module) => module.children)
  const exported = all.filter((r) => !r.isReference())
  const aliases = all.filter((r) => r.isReference() && !exported.some((other) => other.name === r.name))
  for (const r of exported) if (!commentOf(r)) faults.push(`${r.parent.name}: ${r.name} has no comment`)
  app.renderer.hooks.on('sidebar.begin', (context) =>
    JSX.createElement('p', null, JSX.createElement('a', { href: context.relativeURL(home) }, 'mnc: documents')),
  )
  let sections = []
  app.renderer.on(RendererEvent.BEGIN, () => {
    sections = [...exported, ...aliases].map((r) => {
      const target = r.isReference() ? r.getTargetReflectionDeep() : r
      const text = commentOf(target)
        ?.summary.map((part) => part.text)
        .join('')
      return { page: app.renderer.router.getFullUrl(target), title: r.name, text: text ?? '' }
    })
  })
  await app.generateDocs(project, out)
  return { sections, faults }
}

const commentOf = (r) => r.comment ?? r.signatures?.find((s) => s.hasComment())?.comment
