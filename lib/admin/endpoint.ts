import type { Json } from '../core/errors.ts'
import type { ControlPanel } from '../runtime/control-panel.ts'
import type { SecretSchema } from './secret-schema.ts'

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
  /** Empty for endpoints that take none. */
  readonly body: Buffer
  /** Of the body, lower case, without parameters; '' where there is none. */
  readonly bodyType: string
}

/** One path of the admin server. */
export interface Endpoint {
  readonly path: string
  /** One line for the index. */
  readonly help: string
  /** True: changes something, or asks by a message, so POST only. */
  readonly changes: boolean
  /** Query parameters that it knows; any other is refused, since ignoring it would answer another question. */
  readonly parameters: readonly string[] | 'any'
  /** The body is read; of all others it is thrown away. */
  readonly takesBody?: true
  answer(request: AdminRequest): AdminAnswer | Promise<AdminAnswer>
}

/** Made when it is first asked for: reading Envoy's API takes 100 ms and 50 MB. */
export type SchemaSource = () => SecretSchema

export function text(body: string, status = 200): AdminAnswer {
  return { status, type: 'text/plain; charset=UTF-8', body }
}

export function json(value: Json): AdminAnswer {
  return { status: 200, type: 'application/json', body: `${JSON.stringify(value, undefined, 1)}\n` }
}
