import type { Json } from '../core/errors.ts'
import type { ControlPanel } from '../runtime/control-panel.ts'

/** What admin talks to: the control process, or the one process of an embedded gateway. */
export type AdminBackend = ControlPanel

/** What an endpoint answers. A body in pieces is written under back-pressure. */
export interface AdminAnswer {
  readonly status: number
  readonly type: string
  readonly body: string | AsyncIterable<string>
  /** Methods for the `Allow` of a 405. */
  readonly allow?: string
}

export interface AdminRequest {
  readonly query: URLSearchParams
  readonly backend: AdminBackend
}

/** One path of the admin server. */
export interface Endpoint {
  readonly path: string
  /** One line for the index. */
  readonly help: string
  /** True: changes something, so POST only. */
  readonly changes: boolean
  /** Query parameters that it knows; any other is refused, since ignoring it would answer another question. */
  readonly parameters: readonly string[]
  answer(request: AdminRequest): AdminAnswer | Promise<AdminAnswer>
}

export function text(body: string, status = 200): AdminAnswer {
  return { status, type: 'text/plain; charset=UTF-8', body }
}

export function json(value: Json): AdminAnswer {
  return { status: 200, type: 'application/json', body: `${JSON.stringify(value, undefined, 1)}\n` }
}
