/** Plain configuration data, in the JSON form of Envoy's messages. */
export type Data = { readonly [name: string]: unknown }

/** One request, sent to both proxies as it is. */
export interface Probe {
  readonly name: string
  /** Raw bytes, or pieces with pauses between them. */
  readonly send: string | readonly string[]
  /** Of the request, for the framing of the answer. Default: the first word of `send`. */
  readonly method?: string
  /** Client address; default 127.0.0.2. */
  readonly from?: string
  /** Read this many responses on the connection; default 1. */
  readonly responses?: number
  /** Lines that it leaves in the access log; default 1. */
  readonly lines?: number
  /** Requests that the origin gets of it, where some may come late (mirrors). */
  readonly arrivals?: number
  /** After sending: `fin` half-closes, `leave` drops the connection once the origin has the request. */
  readonly afterwards?: 'fin' | 'leave'
}

/** A listener of its own, what it does, and what it is asked. */
export interface Group {
  readonly name: string
  /** Fields of the HttpConnectionManager, laid over the defaults. */
  readonly hcm?: Data
  /** Whole route configuration; else `virtualHosts`, else one virtual host with `routes`. */
  readonly routeConfig?: Data
  readonly virtualHosts?: readonly Data[]
  readonly routes?: readonly Data[]
  readonly clusters?: readonly Data[]
  /** HTTP filters before the router. */
  readonly filters?: readonly Data[]
  /** Configuration of the router filter. */
  readonly router?: Data
  /** Text access log instead of the JSON one. */
  readonly textLog?: string
  /** Fields of the JSON access log beside those that every group has. */
  readonly jsonLog?: { readonly [field: string]: unknown }
  /** Instead of both: a whole SubstitutionFormatString; undefined (and named) for Envoy's default line. */
  readonly logFormat?: Data | undefined
  readonly probes: readonly Probe[]
}

export const TYPE = 'type.googleapis.com/'
export const HTTP_FILTERS = 'type.googleapis.com/envoy.extensions.filters.http.'

/** Bytes of a bodiless HTTP/1.1 request; a `host` line is added where none is given. */
export function request(method: string, target: string, ...lines: readonly string[]): string {
  const host = lines.some((line) => /^host:/i.test(line)) ? [] : ['host: a.example']
  return `${[`${method} ${target} HTTP/1.1`, ...host, ...lines].join('\r\n')}\r\n\r\n`
}

/** A GET that is its own name. */
export function get(target: string, ...lines: readonly string[]): Probe {
  return { name: ['GET', target, ...lines].join(' | '), send: request('GET', target, ...lines) }
}

/** The same probe with parts of it replaced. */
export function but(probe: Probe, change: Partial<Probe>): Probe {
  return { ...probe, ...change }
}

/** A POST with a body of known length. */
export function post(target: string, body: string, ...lines: readonly string[]): Probe {
  const send = `${request('POST', target, ...lines, `content-length: ${Buffer.byteLength(body)}`)}${body}`
  return { name: ['POST', target, ...lines, body.slice(0, 20)].join(' | '), send }
}

/** Route to the scripted origin. */
export function to(match: Data, action: Data = {}, route: Data = {}): Data {
  const target = 'cluster' in action || 'weighted_clusters' in action || 'cluster_header' in action
  return { match, route: { ...(target ? {} : { cluster: 'origin' }), ...action }, ...route }
}

/** Route that answers by itself with its own name: for what is chosen rather than what is done. */
export function says(word: string, match: Data): Data {
  return { name: word, match, direct_response: { status: 200, body: { inline_string: word } } }
}

/** STATIC cluster of one endpoint per port. */
export function cluster(name: string, ports: readonly number[], more: Data = {}): Data {
  return {
    name,
    type: 'STATIC',
    connect_timeout: '1s',
    load_assignment: {
      cluster_name: name,
      endpoints: [{ lb_endpoints: ports.map((port) => endpoint(port)) }],
    },
    ...more,
  }
}

export function endpoint(port: number, address = '127.0.0.1'): Data {
  return { endpoint: { address: { socket_address: { address, port_value: port } } } }
}
