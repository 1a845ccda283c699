/**
 * TypeScript apart into what is needed here: comments taken out, strings found, imports read. Knows strings, templates
 * (their code is scanned too), regular expressions and comments; not JSX.
 */
const REGEX_AFTER = /(?:^|[=(,:;!&|?{}[\n]|\breturn|\bcase|=>)\s*$/

/** The source without comments (lines stay lines), and its literals: { kind: string | template | regex, text, at }. */
export function scan(source) {
  const literals = []
  let code = ''
  let at = 0
  /** Depths of braces at which the code in a template ends. */
  const templates = []
  let depth = 0
  const literal = (kind, end) => {
    literals.push({ kind, text: source.slice(at + 1, end - 1), at: code.length })
    code += source.slice(at, end)
    at = end
  }
  const endOf = (from, quote) => {
    let i = from
    while (i < source.length && source[i] !== quote) i += source[i] === '\\' ? 2 : 1
    return i + 1
  }
  /** From behind the back quote or the closing brace to the end of the template, or to its next piece of code. */
  const template = () => {
    let i = at + 1
    for (; i < source.length && source[i] !== '`'; i += source[i] === '\\' ? 2 : 1)
      if (source.startsWith('${', i)) {
        templates.push(depth++)
        return literal('template', i + 2)
      }
    return literal('template', i + 1)
  }
  while (at < source.length) {
    const c = source[at]
    if (source.startsWith('//', at)) at = (source.indexOf('\n', at) + 1 || source.length + 1) - 1
    else if (source.startsWith('/*', at)) {
      const end = source.indexOf('*/', at) + 2
      code += source.slice(at, end).replace(/[^\n]/g, '')
      at = end
    } else if (c === "'" || c === '"') literal('string', endOf(at + 1, c))
    else if (c === '`') template()
    else if (c === '}' && templates.at(-1) === depth - 1) {
      depth = templates.pop()
      template()
    } else if (c === '/' && REGEX_AFTER.test(code.slice(-40))) literal('regex', endOfRegex(source, at))
    else {
      if (c === '{') depth++
      if (c === '}') depth--
      code += c
      at++
    }
  }
  return { code, literals }
}

function endOfRegex(source, from) {
  let inClass = false
  let i = from + 1
  for (; i < source.length && (inClass || source[i] !== '/'); i += source[i] === '\\' ? 2 : 1) {
    if (source[i] === '[') inClass = true
    if (source[i] === ']') inClass = false
  }
  return i + 1
}

/** What a file imports, in whatever form: from, bare, dynamic, types by import(); as written. */
export function importsOf({ code, literals }) {
  return literals
    .filter(({ kind, at }) => kind === 'string' && /\b(?:from|import\s*\(?)\s*$/.test(code.slice(0, at).slice(-40)))
    .map(({ text }) => text)
}
