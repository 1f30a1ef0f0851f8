import { existsSync, readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'

/** Beside the checkout, never in it: the cases of llhttp, one Markdown file per topic. */
export const LLHTTP_FOLDER = join(import.meta.dirname, '..', '..', '..', 'shared', 'data', 'llhttp-request')

export interface LlhttpCase {
  readonly file: string
  readonly title: string
  readonly bytes: Buffer
  /** `request`, `request-finish`, `request-lenient-headers`, ... */
  readonly type: string
  /** Parsed by llhttp with a check switched off: whatever is peculiar in it must be refused. */
  readonly lenient: boolean
  /** Strict llhttp reports a fault of the message; its pauses for CONNECT and Upgrade are none. */
  readonly expectError: boolean
  /** llhttp's own words, '' where there is no error. */
  readonly reason: string
  /** Messages that llhttp saw complete. */
  readonly completed: number
  /** Spans of the log that stand in the bytes as they are: offset and text. */
  readonly spans: readonly { readonly offset: number; readonly bytes: Buffer }[]
}

/** llhttp stops there for its embedder; the message is in order. */
const PAUSES: ReadonlySet<number> = new Set([21, 22, 23])

/** False: the tests that need the cases must skip, and say so by name. */
export function haveLlhttpCases(folder = LLHTTP_FOLDER): boolean {
  return existsSync(folder)
}

/** All cases, in the order of files and sections. Throws on a block that it cannot read, so that none is dropped unseen. */
export function readLlhttpCases(folder = LLHTTP_FOLDER): LlhttpCase[] {
  const files = readdirSync(folder)
    .filter((name) => name.endsWith('.md'))
    .sort()
  return files.flatMap((file) => parseCases(file, readFileSync(join(folder, file), 'utf8')))
}

/** The cases of one Markdown text: heading, `<!-- meta={...} -->`, a `http` block, a `log` block. */
export function parseCases(file: string, text: string): LlhttpCase[] {
  const cases: LlhttpCase[] = []
  let title = ''
  let type = ''
  let http: string | undefined
  const token = /^#+ (.*)$|^<!-- meta=(\{.*\}) -->$|^```(http|log)\n([\s\S]*?)\n```/gm
  for (const match of text.matchAll(token)) {
    if (match[1] !== undefined) title = match[1]
    else if (match[2] !== undefined) type = (JSON.parse(match[2]) as { type: string }).type
    else if (match[3] === 'http') http = match[4]
    else {
      if (http === undefined || type === '') throw new Error(`${file}: a log without a request in "${title}"`)
      cases.push(makeCase({ file, title, type }, unescapeRequest(http), match[4]))
      http = undefined
      type = ''
    }
  }
  if (http !== undefined) throw new Error(`${file}: a request without a log in "${title}"`)
  return cases
}

/**
 * The bytes of a `http` block. A backslash at the end of a line takes the line end away; every line end that is left is
 * CRLF; then `\r \n \t \f`, `\xHH` and octal `\NNN` stand for the characters they name, which go out in UTF-8 (so the
 * offsets of the logs want it). The line end before the closing fence is not part of the request.
 */
export function unescapeRequest(block: string): Buffer {
  const lines = block.replace(/\\\n/g, '').replace(/\n/g, '\r\n')
  return Buffer.from(unescapeText(lines), 'utf8')
}

function unescapeText(text: string): string {
  return text
    .replace(/\\r/g, '\r')
    .replace(/\\n/g, '\n')
    .replace(/\\t/g, '\t')
    .replace(/\\f/g, '\f')
    .replace(/\\x([0-9a-fA-F]{2})/g, (_, hex: string) => String.fromCharCode(Number.parseInt(hex, 16)))
    .replace(/\\([0-7]{1,3})/g, (_, octal: string) => String.fromCharCode(Number.parseInt(octal, 8) & 255))
}

function makeCase(at: { file: string; title: string; type: string }, bytes: Buffer, log: string): LlhttpCase {
  const error = /error code=(\d+) reason="(.*)"/.exec(log)
  const fault = error !== null && !PAUSES.has(Number(error[1]))
  const finish = /^off=NULL finish=(\d)/m.exec(log)
  return {
    ...at,
    bytes,
    lenient: at.type.includes('lenient'),
    expectError: fault || (finish !== null && finish[1] === '2'),
    reason: fault ? error[2] : '',
    completed: [...log.matchAll(/^off=\d+ message complete/gm)].length,
    spans: [...log.matchAll(/^off=(\d+) len=\d+ span\[\w+\]="([^\n]*)"$/gm)].map((span) => ({
      offset: Number(span[1]),
      bytes: Buffer.from(unescapeText(span[2]), 'utf8'),
    })),
  }
}
