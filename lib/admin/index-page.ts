import type { Endpoint } from './endpoint.ts'

/** The page at `/`: links for what only looks, buttons for what changes something. Needs no script. */
export function indexPage(endpoints: readonly Endpoint[]): string {
  const rows = endpoints.map((e) => `<tr><td>${action(e)}</td><td>${escapeHtml(e.help)}</td></tr>`).join('\n')
  return `<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8"><title>Headgate admin</title>
<style>body{font-family:sans-serif;margin:2em}td{padding:.2em 1em}button{font:inherit}</style></head>
<body><h1>Headgate admin</h1><table>
${rows}
</table></body></html>
`
}

/** The same for terminals and for 404 answers. */
export function endpointList(endpoints: readonly Endpoint[]): string {
  return endpoints.map((e) => `  ${e.path}${e.changes ? ' (POST)' : ''}: ${e.help}\n`).join('')
}

function action(endpoint: Endpoint): string {
  const path = escapeHtml(endpoint.path)
  if (!endpoint.changes) return `<a href="${path}">${path}</a>`
  return `<form method="post" action="${path}"><button>${path}</button></form>`
}

function escapeHtml(value: string): string {
  return value.replaceAll('&', '&amp;').replaceAll('<', '&lt;').replaceAll('"', '&quot;')
}
