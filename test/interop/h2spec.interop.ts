import { readFileSync } from 'node:fs'
import { connect } from 'node:net'
import { join } from 'node:path'
import t, { type Test } from 'tap'
import { certificatesFor } from './certificates.ts'
import { startEcho, startHttp2Echo } from './echo.ts'
import { cluster } from './envoy/group.ts'
import { type Gateway, startGateway } from './gateway.ts'
import { downstreamTls, http2Cluster } from './gateway-config.ts'
import { run } from './process.ts'
import { needing, program } from './programs.ts'
import { folderFor } from './servers.ts'

/** h2spec, the conformance tests of HTTP/2 and HPACK for servers, all of them with `--strict`. */

t.setTimeout(400_000)

/** Fewer than this many tests: h2spec gave up early, and its verdict is none. */
const TESTS = 140

/** The echo answers with it: long enough for the tests that cut a body into windows. */
const PATH = '/what/the/origin/answers/with'

interface Verdict {
  readonly tests: number
  readonly passed: number
  readonly skipped: number
  readonly failed: number
}

interface Expected {
  readonly arguments?: readonly string[]
  /** Tests whose failure is right here. */
  readonly failures?: readonly string[]
}

async function conform(t: Test, gateway: Gateway, expected: Expected = {}): Promise<void> {
  const report = join(folderFor(t), 'report.xml')
  const { out, err } = await run(
    program('h2spec'),
    [
      ...['--strict', '--port', String(gateway.port()), '--path', PATH, '--junit-report', report],
      ...(expected.arguments ?? []),
    ],
    { timeoutMs: 180_000 },
  )
  const text = out.toString('utf8')
  const verdict = verdictOf(text)
  const failed = expected.failures ?? []
  t.same(failures(text), failed, `${verdict.passed} of ${verdict.tests} pass ${err}`)
  t.equal(verdict.failed, failed.length, verdict.failed > failed.length ? text.slice(text.indexOf('Failures:')) : '')
  t.ok(verdict.tests >= TESTS, `${verdict.tests} tests have run`)
  t.same(skippedIn(readFileSync(report, 'utf8')), [], 'none is skipped')
  await gateway.assertUnharmed(t)
}

function verdictOf(text: string): Verdict {
  const found = /^\s*(\d+) tests, (\d+) passed, (\d+) skipped, (\d+) failed/m.exec(text)
  const [, tests, passed, skipped, failed] = (found ?? ['', '0', '0', '0', '-1']).map(Number)
  return { tests, passed, skipped, failed }
}

/** Names of the tests that failed, each once. */
function failures(text: string): string[] {
  return [...new Set([...text.matchAll(/× \d+: (.*)$/gm)].map(([, name]) => name))]
}

/** Names of the tests that h2spec left out. */
function skippedIn(xml: string): string[] {
  return [...xml.matchAll(/<testcase [^>]*classname="([^"]*)"[^>]*>\s*<skipped>/g)].map(([, name]) => name)
}

t.test('h2spec --strict on plaintext, before an HTTP/1 upstream: all pass', needing('h2spec'), async (t) => {
  const origin = await startEcho(t)
  const hcm = { codec_type: 'HTTP2' }
  await conform(t, await startGateway(t, [{ hcm }], [cluster('origin', [origin.port])]))
})

t.test('h2spec --strict over TLS, before an HTTP/2 upstream: all pass', needing('h2spec'), async (t) => {
  const origin = await startHttp2Echo(t)
  const certificates = await certificatesFor(t)
  const tls = downstreamTls([await certificates.issue({ dns: ['localhost'], ip: ['127.0.0.1'] })])
  const gateway = await startGateway(t, [{ tls }], [http2Cluster('origin', origin.port)])
  await conform(t, gateway, { arguments: ['--tls', '--insecure'] })
})

t.test('h2spec --strict where malformed messages end their stream alone: all pass', needing('h2spec'), async (t) => {
  const origin = await startEcho(t)
  const http2 = { override_stream_error_on_invalid_http_message: true }
  const hcm = { codec_type: 'HTTP2', http2_protocol_options: http2 }
  await conform(t, await startGateway(t, [{ hcm }], [cluster('origin', [origin.port])]))
})

t.test(
  'h2spec --strict where HTTP/1 is spoken beside: all pass but the preface that is none, which gets an HTTP/1 answer',
  needing('h2spec'),
  async (t) => {
    const origin = await startEcho(t)
    const gateway = await startGateway(t, [{}], [cluster('origin', [origin.port])])
    await conform(t, gateway, { failures: ['Sends invalid connection preface'] })
    const socket = connect(gateway.port(), '127.0.0.1').setEncoding('latin1')
    socket.write('INVALID CONNECTION PREFACE\r\n\r\n')
    const pieces: string[] = []
    for await (const piece of socket) pieces.push(piece as string)
    t.match(pieces.join(''), /^HTTP\/1\.1 400 Bad Request\r\n/, 'what h2spec takes for a frame, and then the end')
  },
)
