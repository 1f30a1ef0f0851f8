import { once } from 'node:events'
import type { IncomingMessage, Server, ServerResponse } from 'node:http'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import type { Address } from '../core/address.ts'
import { formatAddress } from '../core/address.ts'
import { ConfigError, ConfigRefused } from '../core/errors.ts'
import type { Log } from '../core/metrics.ts'
import { applySocketMode, listenOptions } from '../runtime/local-binder.ts'
import { describeBindError } from '../runtime/socket-handle.ts'
import { clearStaleSocket } from '../runtime/unix-socket.ts'
import type { AdminAnswer, AdminBackend, Endpoint } from './endpoint.ts'
import { text } from './endpoint.ts'
import { adminEndpoints } from './endpoints.ts'
import { refusal } from './guard.ts'
import { endpointList } from './index-page.ts'
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
}

/** A running admin server; whoever started it closes it. */
export interface AdminServer {
  /** As bound: the real port where the configuration said 0. */
  readonly address: Address
  /** Ends open connections as well. Idempotent. */
  close(): Promise<void>
}

/**
 * Serves the admin endpoints over plain HTTP/1, on `node:http`: operators' traffic is no part of the data path.
 *
 * There is no authentication, as in Envoy: who reaches the address may end the gateway, so it belongs on loopback.
 *
 * @throws ConfigRefused where the address cannot be bound
 */
export async function startAdmin(options: AdminOptions): Promise<AdminServer> {
  const { address, log } = options
  const endpoints = adminEndpoints(options.identity)
  const byPath = new Map(endpoints.map((endpoint) => [endpoint.path, endpoint]))
  const server = createServer({ requestTimeout: REQUEST_TIMEOUT_MS, headersTimeout: REQUEST_TIMEOUT_MS })
  server.maxConnections = MAX_CONNECTIONS
  server.on('request', (req, res) => {
    // The answer does not depend on a body; it is read so that the connection stays in step.
    req.resume()
    answer(req, options, { endpoints, byPath })
      .catch((error: unknown) => {
        log.error('an admin endpoint failed', {
          path: req.url,
          error: error instanceof Error ? error.stack : String(error),
        })
        return text('internal error\n', 500)
      })
      .then((result) => send(req, res, result))
      .catch((error: unknown) => {
        log.error('an admin answer broke off', { path: req.url, error: String(error) })
        res.destroy()
      })
  })
  await listen(server, address)
  return { address: boundAddress(server, address), close: () => close(server) }
}

async function answer(
  req: IncomingMessage,
  { address, backend }: AdminOptions,
  table: { readonly endpoints: readonly Endpoint[]; readonly byPath: ReadonlyMap<string, Endpoint> },
): Promise<AdminAnswer> {
  const refused = refusal(address, req.headers.host, req.headers.origin)
  if (refused !== undefined) return text(`${refused}\n`, 403)
  const target = req.url ?? '/'
  const mark = target.indexOf('?')
  const path = mark < 0 ? target : target.slice(0, mark)
  const query = new URLSearchParams(mark < 0 ? '' : target.slice(mark + 1))
  const endpoint = table.byPath.get(path)
  if (endpoint === undefined) {
    return text(`invalid path. admin commands are:\n${endpointList(table.endpoints)}`, 404)
  }
  const allowed = endpoint.changes ? ['POST'] : ['GET', 'HEAD']
  if (!allowed.includes(req.method ?? '')) {
    return { ...text(`method must be ${allowed.join(' or ')}\n`, 405), allow: allowed.join(', ') }
  }
  for (const name of query.keys()) {
    if (!endpoint.parameters.includes(name)) return text(`${name}: is not a parameter of ${path} here\n`, 400)
  }
  return endpoint.answer({ query, backend })
}

async function send(req: IncomingMessage, res: ServerResponse, result: AdminAnswer): Promise<void> {
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
    if (res.destroyed) return
    if (!res.write(piece)) await Promise.race([once(res, 'drain'), once(res, 'close')])
  }
  res.end()
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

function close(server: Server): Promise<void> {
  return new Promise((resolve) => {
    server.close(() => resolve())
    server.closeAllConnections()
  })
}
