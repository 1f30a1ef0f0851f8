import { join } from 'node:path'
import t from 'tap'
import { LIMITS } from '../http1/tables/case.ts'
import type { ResponseCase, Whole } from '../http1/tables/response-case.ts'
import { responseCases } from '../http1/tables/responses.ts'
import { settle } from '../support/clock.ts'
import { TestGateway } from '../support/gateway.ts'
import { fieldValues } from '../support/http1-message.ts'
import { Origin, type OriginScript } from '../support/origin.ts'
import { byteByByte } from '../support/splits.ts'
import { WireClient, type WireResponse } from '../support/wire.ts'
import { bootstrap, cluster, type LogLine, upstreamOptions } from './bootstrap.ts'

/** Every row of the response table, said by an origin behind a running gateway. */

const client = new WireClient()
const log = join(t.testdir(), 'access.log')
let script: OriginScript = (_, reply) => reply.send().then(() => {})
const origin = await Origin.start((request, reply) => script(request, reply))
const gateway = await TestGateway.start(
  bootstrap({
    log,
    hcm: { http_protocol_options: { enable_trailers: true } },
    clusters: [
      cluster(
        'origin',
        origin.port,
        upstreamOptions(
          { max_headers_count: LIMITS.headers, max_response_headers_kb: LIMITS.headerBytes / 1024 },
          { enable_trailers: true },
        ),
      ),
    ],
  }),
  { logPath: log },
)

t.teardown(async () => {
  await client.closeAll()
  await gateway.close()
  await origin.close()
})

/** Answers the row's bytes to its own request, and properly to any other. */
function scriptOf(row: ResponseCase, pieces: readonly Buffer[]): OriginScript {
  return async (request, reply) => {
    if (request.target === '/next') {
      await reply.send({ body: 'next' })
      return
    }
    for (const piece of pieces) {
      await reply.write(piece)
      if (pieces.length > 1) await settle(1)
    }
    if (row.ends === 'open') return
    // The bytes arrive before the end does.
    await settle(4)
    if (row.ends === 'fin') reply.close()
    else reply.reset()
  }
}

let number = 0

async function problemsOf(row: ResponseCase, pieces: readonly Buffer[] = [row.bytes]): Promise<string[]> {
  origin.resetAll()
  await gateway.until(() => gateway.stat('cluster.origin.upstream_cx_active') === 0, 'end of old connections')
  script = scriptOf(row, pieces)
  const from = origin.requests.length
  const wire = await client.connect(gateway.port())
  const problems: string[] = []
  try {
    const head = `${row.method} /row HTTP/1.1\r\nhost: a.example\r\nx-seq: ${++number}\r\n\r\n`
    const response = await wire.exchange(head, { method: row.method }).catch((error) => error as Error)
    if (response instanceof Error) {
      if (row.expect.kind !== 'broken') problems.push(String(response))
    } else if (row.expect.kind === 'whole') problems.push(...wholeProblems(row.expect, response))
    else if (row.expect.kind === 'broken') problems.push(...brokenProblems(response))
    else if (response.status !== row.expect.status || !response.clean) problems.push(`status ${response.status}`)
    const goesOn = row.expect.kind !== 'broken'
    if (!goesOn && wire.stream.ending === 'open') problems.push('the connection of a broken response is still open')
    const attempts = origin.requests.length - from
    if (attempts !== 1) problems.push(`${attempts} requests at the origin`)
    if (goesOn) {
      const next = await wire.exchange('GET /next HTTP/1.1\r\nhost: a.example\r\nx-seq: next\r\n\r\n')
      if (next.text() !== 'next') problems.push(`next: ${next.status} ${next.text()}`)
      const reused = origin.requests.at(-1)?.connection === origin.requests[from].connection
      const reusable = row.expect.kind === 'whole' && row.expect.reusable
      if (reused !== reusable) problems.push(`the connection was ${reused ? '' : 'not '}used again`)
    }
  } catch (error) {
    problems.push(String(error))
  }
  await wire.close()
  return [...problems, ...gateway.complaints.splice(0)]
}

function wholeProblems(expect: Whole, response: WireResponse): string[] {
  const problems: string[] = []
  if (response.status !== expect.status) problems.push(`status ${response.status}: ${response.text()}`)
  if (!response.clean) problems.push('the response broke off')
  if (response.text() !== expect.body) problems.push(`body ${JSON.stringify(response.text())}`)
  for (const name of new Set(expect.fields.map(([n]) => n))) {
    const wanted = expect.fields.filter(([n]) => n === name).map(([, value]) => value)
    const got = fieldValues(response.fields, name)
    if (JSON.stringify(got) !== JSON.stringify(wanted)) problems.push(`${name}: ${JSON.stringify(got)}`)
  }
  for (const name of expect.absent) if (response.get(name) !== undefined) problems.push(`${name} was passed on`)
  if (JSON.stringify(response.trailers) !== JSON.stringify(expect.trailers)) {
    problems.push(`trailers ${JSON.stringify(response.trailers)}`)
  }
  // 100 belongs to the connection between us and the origin where nobody asked for it.
  const interim = response.informational.map((i) => i.status)
  if (JSON.stringify(interim) !== JSON.stringify(expect.interim.filter((s) => s !== 100))) {
    problems.push(`interim ${JSON.stringify(interim)}`)
  }
  return problems
}

/** Either the head had not gone out yet, and an error took its place, or the end is plainly no end. */
function brokenProblems(response: WireResponse): string[] {
  if (response.status === 502 || response.status === 503) return response.clean ? [] : ['a broken error response']
  return response.clean ? [`a clean end: ${response.status} ${JSON.stringify(response.text())}`] : []
}

for (const rule of new Set(responseCases.map((row) => row.rule))) {
  t.test(`responses: ${rule}`, async (t) => {
    for (const row of responseCases) if (row.rule === rule) t.same(await problemsOf(row), [], row.name)
  })
}

t.test('small responses that arrive byte by byte lead to the same', async (t) => {
  for (const row of responseCases) {
    if (row.bytes.length <= 60) t.same(await problemsOf(row, byteByByte(row.bytes)), [], row.name)
  }
})

t.test('the access log names what was wrong', async (t) => {
  const rows: ResponseCase[] = responseCases.filter((row) => row.expect.kind !== 'whole')
  const from = number
  for (const row of rows) await problemsOf(row)
  await client.closeAll()
  await gateway.close()
  const lines = gateway.lines().map((line) => JSON.parse(line) as LogLine)
  rows.forEach((row, i) => {
    const mine = lines.filter((line) => line.seq === String(from + 1 + i))
    t.equal(mine.length, 1, `one line: ${row.name}`)
    const { flags, details } = mine[0]
    const early = row.expect.kind === 'refused' && row.expect.status === 503 && row.rule !== 'limits'
    const closed = early || row.ends !== 'open'
    t.ok(flags === 'UPE' || (closed && flags === 'UC'), `${row.name}: ${flags}`)
    t.match(details, /^upstream_reset_(before|after)_response_started\{/, row.name)
  })
})
