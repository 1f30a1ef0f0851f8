import { setTimeout as sleep } from 'node:timers/promises'
import type { Field } from '../../support/http1-message.ts'
import type { Origin, OriginRequest, OriginScript } from '../../support/origin.ts'
import type { Wire, WireClient } from '../../support/wire.ts'
import type { Probe } from './group.ts'
import type { RunningProxy } from './processes.ts'

/** What can be seen of one exchange from outside: place → text. */
export type Observation = Map<string, string>

/** Not 127.0.0.1, which Envoy replaces by the machine's own address in X-Forwarded-For. */
const CLIENT = '127.0.0.2'

/** How long a proxy may take to close after its answer before it counts as kept alive. */
const CLOSING_MS = 20

/** The scripted origin: the request's `x-script` says what happens. */
export const script: OriginScript = async (request, reply) => {
  const [, verb, argument] = /^([a-z]*)=?(.*)$/.exec(request.get('x-script') ?? '') ?? ['', '', '']
  const answer = SCRIPTS[verb]
  const body = await request.body
  if (!body.clean) return
  if (answer !== undefined) return answer(request, reply, argument)
  await reply.send({ fields: [['content-type', 'text/plain']], body: `${request.method} ${body.bytes.length}` })
}

const SCRIPTS: { readonly [verb: string]: (...args: [...Parameters<OriginScript>, string]) => Promise<void> } = {
  __proto__: null as never,
  async status(_request, reply, code) {
    await reply.send({ status: Number(code), body: code })
  },
  async raw(_request, reply, name) {
    await reply.write(RAW[name])
    if (name.startsWith('close')) reply.close()
  },
  async headers(_request, reply, list) {
    const fields = list.split(';').map((pair): Field => {
      const at = pair.indexOf(':')
      return [pair.slice(0, at), pair.slice(at + 1)]
    })
    await reply.send({ fields, body: 'with headers' })
  },
  async reset(_request, reply) {
    reply.reset()
  },
  async fin(_request, reply) {
    reply.close()
  },
  async stall(_request, reply) {
    await reply.stall()
  },
  async half(_request, reply) {
    await reply.write('HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhalf')
    await sleep(20)
    reply.reset()
  },
  async chunks(_request, reply) {
    await reply.send({ chunks: ['one', 'two'], trailers: [['x-trailer', 'last']] })
  },
  async interim(_request, reply, code) {
    await reply.inform(Number(code), [['link', '</a.css>; rel=preload']])
    await reply.send({ body: 'final' })
  },
}

const RAW: { readonly [name: string]: string } = {
  __proto__: null as never,
  garbage: 'this is no HTTP\r\n\r\n',
  'close-delimited': 'HTTP/1.1 200 OK\r\n\r\nup to the close',
  'close-http10': 'HTTP/1.0 200 OK\r\ncontent-length: 2\r\n\r\nok',
  'both-framings': 'HTTP/1.1 200 OK\r\ncontent-length: 5\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n',
  'no-reason': 'HTTP/1.1 200 \r\ncontent-length: 2\r\n\r\nok',
  'odd-reason': 'HTTP/1.1 299 Very Odd\r\ncontent-length: 2\r\n\r\nok',
  connection:
    'HTTP/1.1 200 OK\r\nconnection: x-hop\r\nx-hop: 1\r\nkeep-alive: timeout=5\r\ncontent-length: 2\r\n\r\nok',
  upgrade: 'HTTP/1.1 200 OK\r\nupgrade: h2c\r\ncontent-length: 2\r\n\r\nok',
  'many-headers': `HTTP/1.1 200 OK\r\ncontent-length: 2\r\n${'x-a: 1\r\n'.repeat(150)}\r\nok`,
  'big-headers': `HTTP/1.1 200 OK\r\ncontent-length: 2\r\nx-a: ${'a'.repeat(100_000)}\r\n\r\nok`,
  'grpc-trailers-only':
    'HTTP/1.1 200 OK\r\ncontent-type: application/grpc\r\ngrpc-status: 5\r\ngrpc-message: no\r\ncontent-length: 0\r\n\r\n',
  'not-modified': 'HTTP/1.1 304 Not Modified\r\netag: "a"\r\ncontent-length: 5\r\n\r\n',
  'no-content': 'HTTP/1.1 204 No Content\r\n\r\n',
  'envoy-headers':
    'HTTP/1.1 200 OK\r\nx-envoy-upstream-service-time: 999\r\nx-envoy-overloaded: true\r\nserver: them\r\ndate: Tue, 01 Jan 2030 00:00:00 GMT\r\nx-envoy-decorator-operation: op\r\ncontent-length: 2\r\n\r\nok',
}

function size(request: OriginRequest): number {
  return request.fields.length * 1000 + (request.get('host') ?? '').length
}

/** Sends one probe to a proxy and notes all that is seen of it. */
export async function observe(
  proxy: RunningProxy,
  probe: Probe,
  outside: { readonly client: WireClient; readonly origin: Origin; readonly group: string },
): Promise<Observation> {
  const seen: Observation = new Map()
  const before = outside.origin.requests.length
  const port = proxy.ports.get(outside.group) ?? 0
  const wire = await outside.client.connect(
    { host: '127.0.0.1', port },
    { localAddress: probe.from ?? CLIENT, halfOpen: true },
  )
  try {
    await send(wire, probe)
    if (probe.afterwards === 'leave') await leave(wire, outside.origin, before)
    else await readAnswers(wire, probe, seen)
  } finally {
    await wire.close()
  }
  const arrivals = before + (probe.arrivals ?? 0)
  await outside.origin.until(() => outside.origin.requests.length >= arrivals, 'mirrored request')
  // Mirrors come in no order; they are those with more headers, or with a longer host.
  const requests = outside.origin.requests.slice(before)
  if (probe.arrivals !== undefined) requests.sort((a, b) => size(a) - size(b))
  seen.set('origin requests', String(requests.length))
  for (const [index, request] of requests.entries()) {
    const at = index === 0 ? 'origin' : `origin[${index}]`
    seen.set(`${at} line`, `${request.method} ${request.target} ${request.version}`)
    const body = await request.body.catch(() => undefined)
    seen.set(`${at} body`, body === undefined ? 'broken' : `${body.clean} ${digest(body.bytes)}`)
    noteFields(seen, `${at} `, request.fields)
  }
  for (const [where, value] of seen)
    seen.set(where, value === `${port}` ? '<port>' : value.replaceAll(`:${port}`, ':<port>'))
  return seen
}

async function send(wire: Wire, probe: Probe): Promise<void> {
  const pieces = typeof probe.send === 'string' ? [probe.send] : probe.send
  for (const [index, piece] of pieces.entries()) {
    if (index > 0) await sleep(20)
    await wire.write(piece)
  }
  if (probe.afterwards === 'fin') wire.end()
}

async function leave(wire: Wire, origin: Origin, before: number): Promise<void> {
  await origin.until(() => origin.requests.length > before, 'request to walk away from')
  await wire.close()
}

async function readAnswers(wire: Wire, probe: Probe, seen: Observation): Promise<void> {
  const method = probe.method ?? (typeof probe.send === 'string' ? probe.send : probe.send.join('')).split(' ', 1)[0]
  for (let index = 0; index < (probe.responses ?? 1); index++) {
    const at = index === 0 ? '' : `[${index}] `
    try {
      const response = await wire.readResponse({ method })
      seen.set(`${at}status`, `${response.version} ${response.status} ${response.reason}`)
      seen.set(`${at}interim`, response.informational.map((r) => JSON.stringify([r.status, r.fields])).join())
      seen.set(`${at}framing`, response.framing)
      seen.set(`${at}body`, `${response.clean ? '' : 'cut off: '}${digest(response.bytes)}`)
      noteFields(seen, at, response.fields)
    } catch (error) {
      seen.set(`${at}status`, `none: ${(error as Error).message.split(':', 1)[0]}`)
      break
    }
  }
  // A proxy may say that it closes and then leave the closing to the client for a while.
  const says = seen.get('header connection') === 'close'
  if (!says) await Promise.race([wire.stream.untilEnd().catch(() => undefined), sleep(CLOSING_MS)])
  seen.set('afterwards', says || wire.stream.ending !== 'open' ? 'closed' : 'open')
}

function noteFields(seen: Observation, at: string, fields: readonly Field[]): void {
  const byName = new Map<string, string[]>()
  for (const [name, value] of fields) byName.set(name, [...(byName.get(name) ?? []), normal(name.toLowerCase(), value)])
  for (const [name, values] of byName) seen.set(`${at}header ${name}`, values.join(' | '))
}

const UUID = /^[0-9a-f]{8}-[0-9a-f]{4}-([0-9a-f])[0-9a-f]{3}-[0-9a-f]{4}-[0-9a-f]{12}$/

function normal(name: string, value: string): string {
  if (name === 'date') return /^\w{3}, \d\d \w{3} 20[0-2]\d /.test(value) ? '<now>' : value
  if (name === 'x-envoy-upstream-service-time') return value.replace(/^(?!999$)\d{1,4}$/, '<ms>')
  const uuid = UUID.exec(value)
  return uuid === null ? value : `<uuid ${uuid[1]}>`
}

function digest(bytes: Buffer): string {
  const text = bytes.toString('latin1')
  return text.length <= 400 ? text : `${text.slice(0, 100)}… (${text.length} bytes)`
}
