import { renderMarkdown, renderText } from './capabilities/render.ts'
import { readCapabilities, selectCapabilities } from './capabilities/table.ts'

/** What `headgate capabilities` was asked for. */
export interface CapabilitiesFlags {
  readonly json?: boolean
  readonly markdown?: boolean
}

/**
 * `headgate capabilities [type]`: what becomes of each type and field of Envoy's API. Without a type every extension is
 * listed, with one the fields of all messages whose name contains it. Status 1 where there is none.
 */
export function printCapabilities(
  type: string | undefined,
  flags: CapabilitiesFlags,
  { stdout, stderr }: { readonly stdout: NodeJS.WritableStream; readonly stderr: NodeJS.WritableStream },
): number {
  const whole = readCapabilities()
  const table = type === undefined ? whole : selectCapabilities(whole, type)
  const found = Object.keys(table.messages).length + Object.keys(table.extensions).length + table.roots.length
  if (found === 0) {
    stderr.write(`no type whose name contains ${JSON.stringify(type)} was looked at\n`)
    return 1
  }
  if (flags.json === true) stdout.write(`${JSON.stringify(table, undefined, 2)}\n`)
  else if (flags.markdown === true) stdout.write(`${renderMarkdown(table)}\n`)
  else stdout.write(renderText(table, type !== undefined))
  return 0
}
