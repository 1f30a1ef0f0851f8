import t from 'tap'
import { type Accepted, type Forwarded, LIMITS, type RequestCase, type RequestSettings } from '../http1/tables/case.ts'
import { requestCases } from '../http1/tables/requests.ts'
import { httpOf, withChains } from '../support/chains.ts'
import { settle, TestClock } from '../support/clock.ts'
import { TestGateway } from '../support/gateway.ts'
import { type Field, fieldValues } from '../support/http1-message.ts'
import { Origin, type OriginRequest } from '../support/origin.ts'
import { byteByByte } from '../support/splits.ts'
import { type Wire, WireClient } from '../support/wire.ts'
import { bootstrap, cluster, upstreamOptions } from './bootstrap.ts'

/** Every row of the request table through a running gateway: what the client sees, and what the origin sees. */

const client = new WireClient()
const origin = await Origin.start()
const gateways = new Map<string, Promise<TestGateway>>()

t.teardown(async () => {
  await client.closeAll()
  for (const gateway of gateways.values()) await (await gateway).close()
  await origin.close()
})

const UNDERSCORES = { allow: 'ALLOW', drop: 'DROP_HEADER' } as const

function start(settings: RequestSettings, clock?: TestClock): Promise<TestGateway> {
  return TestGateway.start(
    bootstrap({
      hcm: {
        codec_type: settings.http1Only === true ? 'HTTP1' : 'AUTO',
        common_http_protocol_options: {
          max_headers_count: LIMITS.headers,
          headers_with_underscores_action:
            settings.underscores === undefined ? 'REJECT_REQUEST' : UNDERSCORES[settings.underscores],
        },
        max_request_headers_kb: LIMITS.headerBytes / 1024,
        http_protocol_options: {
          accept_http_10: settings.http10 === true,
          enable_trailers: settings.trailers === true,
          allow_absolute_url: settings.noAbsoluteForm !== true,
        },
        ...(settings.upgrades && { upgrade_configs: settings.upgrades.map((type) => ({ upgrade_type: type })) }),
      },
      clusters: [cluster('origin', origin.port, upstreamOptions({}, { enable_trailers: settings.trailers === true }))],
    }),
    {
      clock,
      // The request line has a limit of its own in the native configuration only.
      adjust: (config) =>
        withChains(config, (chain) => ({
          ...chain,
          http: { ...httpOf(chain), maxRequestLineBytes: LIMITS.lineBytes },
        })),
    },
  )
}

function gatewayFor(settings: RequestSettings): Promise<TestGateway> {
  const key = JSON.stringify(settings)
  let gateway = gateways.get(key)
  if (gateway === undefined) {
    gateway = start(settings)
    gateways.set(key, gateway)
  }
  return gateway
}

/** What is wrong with what the client saw, in words. */
async function clientProblems(wire: Wire, row: RequestCase): Promise<string[]> {
  const problems: string[] = []
  let open = true
  let whole = true
  for (const expect of [row.expect, ...row.after]) {
    if (expect.kind === 'unfinished') {
      wire.end()
      whole = false
      open = false
      break
    }
    const method = expect.kind === 'accept' ? expect.method : 'GET'
    const response = await wire.readResponse({ method })
    const closes = expect.kind === 'accept' ? !expect.keepAlive : expect.closes
    if (expect.kind === 'accept') problems.push(...acceptProblems(expect, response))
    else if (response.status !== expect.status) problems.push(`status ${response.status}, not ${expect.status}`)
    if (!response.clean) problems.push('the response broke off')
    const connection = response.get('connection')
    if (closes !== (connection === 'close')) return [...problems, `connection: ${connection}, closes: ${closes}`]
    if (response.get('date') === undefined) problems.push('no date')
    if (closes) {
      open = false
      break
    }
  }
  if (open) {
    // Still good for another request?
    const again = await wire.exchange('GET /again HTTP/1.1\r\nhost: again.example\r\n\r\n')
    if (again.status !== 200) problems.push(`status ${again.status} for another request`)
    return problems
  }
  const { bytes, ending } = await wire.readToEnd()
  if (bytes.length > 0) problems.push(`bytes before the end: ${bytes.toString('latin1')}`)
  if (whole && ending !== 'fin') problems.push(`the connection ended by ${ending}`)
  return problems
}

function acceptProblems(expect: Accepted, response: Awaited<ReturnType<Wire['readResponse']>>): string[] {
  const problems: string[] = []
  if (response.status !== 200) problems.push(`status ${response.status}: ${response.text()}`)
  else if (expect.method !== 'HEAD' && response.text() !== expect.body) problems.push(`echo ${response.text()}`)
  if (expect.minor === 0 && expect.keepAlive && response.get('connection') !== 'keep-alive') {
    problems.push('HTTP/1.0 is not told that the connection is kept')
  }
  if (expect.minor === 0 && response.informational.length > 0) problems.push('interim response to HTTP/1.0')
  return problems
}

/** What is wrong with what the origin saw. */
async function originProblems(row: RequestCase, seen: readonly OriginRequest[]): Promise<string[]> {
  const bodies = await Promise.all(seen.map((request) => request.body))
  if (row.upstream === 'incomplete') {
    const clean = bodies.filter((body) => body.clean).length
    return clean === 0 && seen.length <= 1 ? [] : [`${seen.length} requests at the origin, ${clean} of them whole`]
  }
  if (seen.length !== row.upstream.length) {
    return [`${seen.length} requests at the origin, not ${row.upstream.length}: ${seen.map((r) => r.target)}`]
  }
  return row.upstream.flatMap((expected, i) => {
    const body = bodies[i].bytes.toString('latin1')
    const problems = forwardProblems(expected, seen[i])
    if (!bodies[i].clean) problems.push('its body broke off')
    if (body !== expected.body) problems.push(`its body is ${JSON.stringify(body)}`)
    return problems
  })
}

function forwardProblems(expected: Forwarded, request: OriginRequest): string[] {
  const problems: string[] = []
  if (request.method !== expected.method) problems.push(`method ${request.method}`)
  if (request.target !== expected.target) problems.push(`target ${request.target}, not ${expected.target}`)
  if (request.version !== 'HTTP/1.1') problems.push(`version ${request.version}`)
  const hosts = fieldValues(request.fields, 'host')
  if (hosts.length !== 1 || hosts[0] !== expected.host) problems.push(`host ${hosts}, not ${expected.host}`)
  const lower = request.fields.map(([name, value]): Field => [name.toLowerCase(), value])
  let from = 0
  for (const [name, value] of expected.fields) {
    const at = lower.findIndex((f, i) => i >= from && f[0] === name && f[1] === value)
    if (at < 0) problems.push(`no ${name}: ${JSON.stringify(value.slice(0, 80))} behind field ${from}`)
    else from = at + 1
  }
  for (const name of expected.absent) {
    if (lower.some((f) => f[0] === name)) problems.push(`${name} was passed on`)
  }
  return problems
}

async function problemsOf(row: RequestCase, pieces: readonly Buffer[] = [row.bytes]): Promise<string[]> {
  const gateway = await gatewayFor(row.settings)
  const from = origin.requests.length
  const wire = await client.connect(gateway.port())
  const problems: string[] = []
  try {
    if (pieces.length === 1) void wire.write(pieces[0])
    else void wire.writePieces(pieces)
    problems.push(...(await clientProblems(wire, row)))
  } catch (error) {
    problems.push(String(error))
  }
  await wire.close()
  // What should not be forwarded gets the time to arrive.
  await settle()
  const seen = origin.requests.slice(from).filter((r) => r.target !== '/again')
  problems.push(...(await originProblems(row, seen)), ...origin.violations.splice(0), ...gateway.complaints.splice(0))
  return problems
}

const asterisk = (row: RequestCase): boolean => row.expect.kind === 'accept' && row.expect.target === '*'
const immediate = requestCases.filter(
  (row) => !asterisk(row) && (row.expect.kind !== 'reject' || row.expect.at !== 'deadline'),
)
const rules = [...new Set(immediate.map((row) => row.rule))]

for (const rule of rules) {
  t.test(`requests: ${rule}`, async (t) => {
    for (const row of immediate) if (row.rule === rule) t.same(await problemsOf(row), [], row.name)
  })
}

t.test('small requests that arrive byte by byte lead to the same', async (t) => {
  for (const row of immediate) {
    if (row.bytes.length <= 60) t.same(await problemsOf(row, byteByByte(row.bytes)), [], row.name)
  }
})

t.test('the asterisk-form is good HTTP that no route can take: 404, as Envoy', async (t) => {
  const gateway = await gatewayFor({})
  const from = origin.requests.length
  const rows = requestCases.filter(asterisk)
  t.ok(rows.length > 0)
  for (const row of rows) {
    const wire = await client.connect(gateway.port())
    const response = await wire.exchange(row.bytes)
    t.equal(response.status, 404, row.name)
    t.equal(response.get('connection'), undefined, 'nothing is wrong with the connection')
    await wire.close()
  }
  t.equal(origin.requests.length, from)
})

t.test('requests and responses with large heads follow each other on one connection', async (t) => {
  const large = await Origin.start((request, reply) => {
    void reply.send({ body: 'ok', fields: [['x-large', (request.get('x-letter') ?? '').repeat(20_000)]] })
  })
  const gateway = await TestGateway.start(bootstrap({ clusters: [cluster('origin', large.port)] }))
  t.teardown(async () => {
    await gateway.close()
    await large.close()
  })
  const wire = await client.connect(gateway.port())
  for (const letter of ['a', 'b', 'c']) {
    const response = await wire.exchange(
      `GET / HTTP/1.1\r\nhost: a\r\nx-letter: ${letter}\r\nx-big: ${letter.repeat(10_000)}\r\n\r\n`,
    )
    t.equal(response.status, 200)
    t.equal(response.get('x-large') === letter.repeat(20_000), true)
    t.equal(large.requests.at(-1)?.get('x-big') === letter.repeat(10_000), true)
  }
  t.equal(large.requests.length, 3)
  t.equal(gateway.stat('cluster.origin.upstream_cx_total'), 1)
  await wire.close()
})

t.test('a head that stops is answered at its deadline, and nothing is forwarded', async (t) => {
  const rows = requestCases.filter((row) => row.expect.kind === 'reject' && row.expect.at === 'deadline')
  t.ok(rows.length > 0)
  const from = origin.requests.length
  for (const row of rows) {
    const clock = new TestClock()
    const gateway = await start(row.settings, clock)
    const wire = await client.connect(gateway.port())
    await wire.write(row.bytes)
    await gateway.until(() => gateway.armed > 0, 'timer for the head')
    await settle(10)
    clock.advance(59_900)
    await settle()
    t.equal(wire.stream.received, 0, 'not before')
    clock.advance(200)
    const response = await wire.readResponse()
    t.equal(response.status, 408, row.name)
    t.equal(response.get('connection'), 'close')
    t.equal(await wire.expectEnd(), 'fin')
    t.equal(gateway.stat('http.test.downstream_rq_header_timeout'), 1)
    await gateway.close()
  }
  t.equal(origin.requests.length, from)
})
