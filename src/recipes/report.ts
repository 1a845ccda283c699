/** The report of a recipe run. The charts' library is large: it is loaded with the first page. */
import type { ReportFacts } from './report-facts.ts'

/** One self-contained HTML page. */
export async function reportPage(facts: ReportFacts): Promise<string> {
  const { writePage } = await import('./report-page.ts')
  return writePage(facts)
}
