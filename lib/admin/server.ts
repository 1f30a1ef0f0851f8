import type { IncomingMessage, Server, ServerResponse } from 'node:http'
import { createServer } from 'node:http'
import type { Http2ServerRequest, Http2ServerResponse } from 'node:http2'
import type { AddressInfo } from 'node:net'
import type { Address } from '../core/address.ts'
import { formatAddress } from '../core/address.ts'
import { ConfigError, ConfigRefused } from '../core/errors.ts'
import type { Log } from '../core/metrics.ts'
import { createProtoRegistry, type ProtoRegistry } from '../proto/registry.ts'
import { applySocketMode, listenOptions } from '../runtime/local-binder.ts'
import { describeBindError } from '../runtime/socket-handle.ts'
import { clearStaleSocket } from '../runtime/unix-socket.ts'
import { isGrpc, serveGrpc } from './csds/grpc.ts'
import { drained } from './drained.ts'
import type { AdminAnswer, AdminBackend, Endpoint, SchemaSource } from './endpoint.ts'
import { text } from './endpoint.ts'
import { adminEndpoints } from './endpoints.ts'
import { refusal } from './guard.ts'
import { endpointList } from './index-page.ts'
import { type SecondProtocol, serveBoth } from './protocols.ts'
import { SecretSchema } from './secret-schema.ts'
import type { Identity } from './server-info.ts'

/** Operators and scrapers are few; more than these are a mistake or an attack. */
const MAX_CONNECTIONS = 256
const REQUEST_TIMEOUT_MS = 10_000
const BACKLOG = 128

export interface AdminOptions {
  readonly address: Address
  readonly backend: AdminBackend
  readonly identity: Identity
  readonly log: Log
  /** Where Envoy's API is read already; undefined: it is read when it is first needed. */
  readonly registry?: () => ProtoRegistry
}

type AnyRequest = IncomingMessage | Http2ServerRequest
type AnyResponse = ServerResponse | Http2ServerResponse

/** Of forms and messages that are posted. */
const MAX_BODY_BYTES = 1024 * 1024

/** The client went away before it had sent all of its request. */
class RequestBrokenOff extends Error {}

/** A running admin server; whoever started it closes it. */
export interface AdminServer {
  /** As bound: the real port where the configuration said 0. */
  readonly address: Address
  /** Ends open connections as well. Idempotent. */
  close(): Promise<void>
}

/** What requests are answered from. */
interface Table {
  readonly endpoints: readonly Endpoint[]
  readonly byPath: ReadonlyMap<string, Endpoint>
}

/**
 * Serves the admin endpoints over plain HTTP/1 and, by prior knowledge, HTTP/2, with gRPC (the client status discovery
 * service) on the latter: on node:http, since operators' traffic is no part of the data path.
 *
 * There is no authentication, as in Envoy: who reaches the address may end the gateway, so it belongs on loopback.
 *
 * @throws ConfigRefused where the address cannot be bound
 */
export async function startAdmin(options: AdminOptions): Promise<AdminServer> {
  const { address, log, backend } = options
  const schema = schemaSource(options.registry ?? createProtoRegistry)
  const endpoints = adminEndpoints(options.identity, schema)
  const table: Table = { endpoints, byPath: new Map(endpoints.map((endpoint) => [endpoint.path, endpoint])) }
  const server = createServer({ requestTimeout: REQUEST_TIMEOUT_MS, headersTimeout: REQUEST_TIMEOUT_MS })
  server.maxConnections = MAX_CONNECTIONS
  const second = serveBoth(server)
  server.on('request', (req, res) => serve(req, res, { options, table }))
  second.server.on('request', (req, res) => {
    if (isGrpc(req) && refusalOf(req, address) === undefined) void serveGrpc(req, res, { backend, schema, log })
    else serve(req, res, { options, table })
  })
  second.server.on('sessionError', (error) => log.debug('an admin connection failed', { error: String(error) }))
  await listen(server, address)
  return { address: boundAddress(server, address), close: () => close(server, second) }
}

function schemaSource(registry: () => ProtoRegistry): SchemaSource {
  let schema: SecretSchema | undefined
  return () => (schema ??= new SecretSchema(registry()))
}

function serve(
  req: AnyRequest,
  res: AnyResponse,
  { options, table }: { readonly options: AdminOptions; readonly table: Table },
): void {
  const { log } = options
  answer(req, options, table)
    .catch((error: unknown) => {
      // Nobody waits for the answer to a request that broke off.
      if (error instanceof RequestBrokenOff) return undefined
      log.error('an admin endpoint failed', {
        path: req.url,
        error: error instanceof Error ? error.stack : String(error),
      })
      return text('internal error\n', 500)
    })
    .then((result) => (result === undefined ? undefined : send(req, res, result)))
    .catch((error: unknown) => {
      log.error('an admin answer broke off', { path: req.url, error: String(error) })
      // The client must see that the end is missing.
      if ('stream' in res) res.stream?.destroy()
      else res.destroy()
    })
}

function refusalOf(req: AnyRequest, address: Address): string | undefined {
  const { host, origin, ':authority': authority } = req.headers
  // HTTP/2 may have both: neither may name somebody else.
  const first = authority?.toString() ?? host
  return refusal(address, first, origin) ?? (host === first ? undefined : refusal(address, host, undefined))
}

async function answer(req: AnyRequest, { address, backend }: AdminOptions, table: Table): Promise<AdminAnswer> {
  const refused = refusalOf(req, address)
  const target = req.url ?? '/'
  const mark = target.indexOf('?')
  const path = mark < 0 ? target : target.slice(0, mark)
  const query = new URLSearchParams(mark < 0 ? '' : target.slice(mark + 1))
  const endpoint = table.byPath.get(path)
  // Most answers do not depend on a body; it is read all the same, so that the connection stays in step.
  if (endpoint?.takesBody !== true || refused !== undefined) req.resume()
  if (refused !== undefined) return text(`${refused}\n`, 403)
  if (endpoint === undefined) {
    return text(`invalid path. admin commands are:\n${endpointList(table.endpoints)}`, 404)
  }
  const allowed = endpoint.changes ? ['POST'] : ['GET', 'HEAD']
  if (!allowed.includes(req.method ?? '')) {
    req.resume()
    return { ...text(`method must be ${allowed.join(' or ')}\n`, 405), allow: allowed.join(', ') }
  }
  const { parameters } = endpoint
  for (const name of parameters === 'any' ? [] : query.keys()) {
    if (!parameters.includes(name)) return text(`${name}: is not a parameter of ${path} here\n`, 400)
  }
  const body = endpoint.takesBody === true ? await readBody(req) : Buffer.alloc(0)
  if (body === undefined) return text(`the body is larger than ${MAX_BODY_BYTES} bytes\n`, 413)
  const bodyType = (req.headers['content-type'] ?? '').split(';', 1)[0].trim().toLowerCase()
  return endpoint.answer({ query, backend, body, bodyType })
}

/** Undefined where it is too large; the rest is thrown away then. */
async function readBody(req: AnyRequest): Promise<Buffer | undefined> {
  const chunks: Buffer[] = []
  let size = 0
  try {
    for await (const chunk of req as AsyncIterable<Buffer>) {
      size += chunk.length
      if (size <= MAX_BODY_BYTES) chunks.push(chunk)
      else chunks.length = 0
    }
  } catch (error) {
    throw new RequestBrokenOff('the body did not come to its end', { cause: error })
  }
  return size > MAX_BODY_BYTES ? undefined : Buffer.concat(chunks)
}

async function send(req: AnyRequest, response: AnyResponse, result: AdminAnswer): Promise<void> {
  // The two are alike in all that is used here.
  const res = response as ServerResponse
  res.statusCode = result.status
  res.setHeader('content-type', result.type)
  res.setHeader('cache-control', 'no-cache, max-age=0')
  res.setHeader('x-content-type-options', 'nosniff')
  // Nothing may frame the page and lead clicks onto its buttons.
  res.setHeader('content-security-policy', "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'")
  if (result.allow !== undefined) res.setHeader('allow', result.allow)
  if (typeof result.body === 'string') {
    res.setHeader('content-length', Buffer.byteLength(result.body))
    res.end(req.method === 'HEAD' ? undefined : result.body)
    return
  }
  if (req.method === 'HEAD') {
    res.end()
    return
  }
  for await (const piece of result.body) {
    if (isGone(response)) return
    if (!res.write(piece)) await drained(res)
  }
  res.end()
}

/** Nobody is left to write to. */
function isGone(res: AnyResponse): boolean {
  return 'stream' in res ? res.stream === undefined || res.stream.destroyed : res.destroyed
}

async function listen(server: Server, address: Address): Promise<void> {
  if (address.kind === 'pipe') await clearStaleSocket(address.path)
  try {
    await new Promise<void>((resolve, reject) => {
      server.once('error', reject)
      server.listen(listenOptions(address, BACKLOG), resolve)
    })
    await applySocketMode(address)
  } catch (error) {
    const code = (error as NodeJS.ErrnoException).code
    const why = code === undefined ? String(error) : describeBindError(code, address)
    throw new ConfigRefused([new ConfigError('admin.address', `cannot listen on ${formatAddress(address)}: ${why}`)])
  }
}

function boundAddress(server: Server, configured: Address): Address {
  const at = server.address() as AddressInfo | string | null
  return typeof at === 'object' && at !== null ? { kind: 'ip', host: at.address, port: at.port } : configured
}

function close(server: Server, second: SecondProtocol): Promise<void> {
  return new Promise((resolve) => {
    server.close(() => resolve())
    second.destroyAll()
  })
}
