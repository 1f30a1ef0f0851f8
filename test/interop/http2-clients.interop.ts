import { randomBytes } from 'node:crypto'
import { readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import t, { type Test } from 'tap'
import { certificatesFor } from './certificates.ts'
import { type Echo, startEcho, startHttp2Echo } from './echo.ts'
import { cluster } from './envoy/group.ts'
import { hash, MIB } from './exchange-bodies.ts'
import { type Gateway, startGateway } from './gateway.ts'
import { downstreamTls, http2Cluster } from './gateway-config.ts'
import { run } from './process.ts'
import { needing, program } from './programs.ts'
import { folderFor } from './servers.ts'

/** curl, nghttp and h2load speak HTTP/2 to Headgate: in plaintext and over TLS, before upstreams of HTTP/1 and HTTP/2. */

t.setTimeout(400_000)

interface Lab {
  readonly gateway: Gateway
  readonly one: Echo
  readonly two: Echo
  /** Trusts the listener `secure`. */
  readonly ca: string
  readonly folder: string
}

/** Listeners `ingress` (to HTTP/2), `one` (to HTTP/1) and `secure` (TLS, to HTTP/2). */
async function lab(t: Test): Promise<Lab> {
  const [one, two, certificates] = [await startEcho(t), await startHttp2Echo(t), await certificatesFor(t)]
  const tls = downstreamTls([await certificates.issue({ dns: ['localhost'], ip: ['127.0.0.1'] })])
  const toOne = [{ match: { prefix: '/' }, route: { cluster: 'one' } }]
  const gateway = await startGateway(
    t,
    [{}, { name: 'one', routes: toOne }, { name: 'secure', tls }],
    [http2Cluster('origin', two.port), cluster('one', [one.port])],
  )
  return { gateway, one, two, ca: certificates.ca, folder: folderFor(t) }
}

async function curl(...args: string[]): Promise<{ status: number; out: Buffer; text: string; err: string }> {
  const { status, out, err } = await run(program('curl'), ['--silent', '--show-error', '--max-time', '30', ...args])
  return { status, out, text: out.toString('latin1'), err }
}

t.test('curl: prior knowledge, bodies both ways, HEAD, trailers', needing('curl'), async (t) => {
  const { gateway, folder } = await lab(t)
  const file = join(folder, 'upload')
  const sent = randomBytes(3 * MIB)
  writeFileSync(file, sent)
  const prior = ['--http2-prior-knowledge']
  for (const [listener, how] of [
    ['ingress', 'to HTTP/2'],
    ['one', 'to HTTP/1'],
  ]) {
    const url = `http://127.0.0.1:${gateway.port(listener)}/echo`
    const whole = await curl(...prior, '--fail', '--data-binary', `@${file}`, url)
    t.same([whole.status, hash(whole.out)], [0, hash(sent)], `3 MiB with a length, ${how} ${whole.err}`)
    // A file from standard input has no length.
    const streamed = await run(program('curl'), ['-s', ...prior, '--max-time', '30', '-T', '-', url], { input: sent })
    t.same([streamed.status, hash(streamed.out)], [0, hash(sent)], `3 MiB without a length, ${how}`)
    const head = await curl(...prior, '--head', url)
    t.match(head.text, /^HTTP\/2 200 \r\n[\s\S]*x-method: HEAD\r\n/, how)
  }
  const url = `http://127.0.0.1:${gateway.port()}/echo`
  // Where a length is announced, curl does not wait for trailers.
  const trailers = await curl(...prior, '--include', url)
  t.match(trailers.text, /\r\n\r\n\/echox-count: 0\r\n/, 'the trailers of the upstream')
  await gateway.assertUnharmed(t)
})

t.test('curl: TLS with ALPN chooses HTTP/2 or HTTP/1.1; Upgrade: h2c is left alone', needing('curl'), async (t) => {
  const { gateway, two, ca, folder } = await lab(t)
  const url = `https://localhost:${gateway.port('secure')}/echo`
  const sent = randomBytes(MIB)
  writeFileSync(join(folder, 'upload'), sent)
  const secure = ['--cacert', ca, '--resolve', `localhost:${gateway.port('secure')}:127.0.0.1`]
  for (const [option, version] of [
    ['--http2', '2'],
    ['--http1.1', '1.1'],
    ['--no-alpn', '1.1'],
  ]) {
    const format = [...secure, option, '-o', '/dev/null', '-w', '%{http_version} %{http_code} %{ssl_verify_result}']
    t.equal((await curl(...format, url)).text, `${version} 200 0`, option)
    const body = await curl(...secure, option, '--data-binary', `@${join(folder, 'upload')}`, url)
    t.same([body.status, hash(body.out)], [0, hash(sent)], `1 MiB, ${option} ${body.err}`)
  }
  // With prior knowledge in plaintext, curl 7.88 cannot use a connection twice.
  const before = two.requests()
  const parallel = await curl(
    ...[...secure, '--http2', '--parallel', '--parallel-max', '50', '--output', join(folder, 'part-#1')],
    ...['--write-out', '%{http_version} %{http_code} %{num_connects}\\n', `${url}/[1-100]`],
  )
  t.equal(parallel.text.match(/^2 200 /gm)?.length, 100, parallel.err)
  t.ok(/^2 200 0$/m.test(parallel.text), 'streams share a connection')
  t.equal(two.requests() - before, 100)
  const parts = Array.from({ length: 100 }, (_, i) => readFileSync(join(folder, `part-${i + 1}`), 'utf8'))
  const paths = parts.map((_, i) => `/echo/${i + 1}`)
  t.same(parts, paths, 'each got its own')
  const plain = `http://127.0.0.1:${gateway.port()}/echo`
  const upgrade = await curl('--http2', '-o', '/dev/null', '-w', '%{http_version} %{http_code}', plain)
  t.equal(upgrade.text, '1.1 200', 'Upgrade: h2c is answered in HTTP/1.1')
  await gateway.assertUnharmed(t)
})

t.test(
  'nghttp: uploads with trailers, padding, small windows, many streams; plaintext and TLS',
  needing('nghttp'),
  async (t) => {
    const { gateway, folder } = await lab(t)
    const file = join(folder, 'upload')
    const sent = randomBytes(MIB)
    writeFileSync(file, sent)
    for (const url of [
      `http://127.0.0.1:${gateway.port()}/echo`,
      `https://localhost:${gateway.port('secure')}/echo`,
      `http://127.0.0.1:${gateway.port('one')}/echo`,
    ]) {
      const nghttp = (...args: string[]): ReturnType<typeof run> =>
        run(program('nghttp'), ['--timeout=30', '--no-verify-peer', ...args], { timeoutMs: 40_000 })
      const echoed = await nghttp(`--data=${file}`, url)
      t.same([echoed.status, hash(echoed.out)], [0, hash(sent)], `1 MiB to ${url} ${echoed.err}`)
      // Windows of 2^10 - 1 bytes, and frames with 200 bytes of padding.
      const small = await nghttp('--window-bits=10', '--padding=200', `--data=${file}`, url)
      t.same([small.status, hash(small.out)], [0, hash(sent)], `small windows, padding: ${url} ${small.err}`)
      const noLength = await nghttp('--no-content-length', '--expect-continue', `--data=${file}`, url)
      t.same([noLength.status, hash(noLength.out)], [0, hash(sent)], `no length, 100-continue: ${url} ${noLength.err}`)
      const many = await nghttp('--null-out', '--stat', '--multiply=100', url)
      t.equal(
        many.out.toString('utf8').match(/\b200\b\s+\d+\s+\/echo$/gm)?.length,
        100,
        `100 streams: ${url} ${many.err}`,
      )
    }
    const verbose = await run(program('nghttp'), [
      ...['--verbose', '--null-out', '--no-content-length', `--data=${file}`, '--trailer=x-sum: 42'],
      `http://127.0.0.1:${gateway.port()}/echo`,
    ])
    const frames = verbose.out.toString('utf8')
    t.match(frames, /recv \(stream_id=\d+\) x-sum: 42/, 'the trailer of the request came back')
    t.match(frames, new RegExp(`recv \\(stream_id=\\d+\\) x-count: ${MIB}`))
    t.notMatch(frames, /recv RST_STREAM/)
    await gateway.assertUnharmed(t)
  },
)

t.test('h2load: thousands of requests and uploads in each combination, no error', needing('h2load'), async (t) => {
  const { gateway, folder } = await lab(t)
  const file = join(folder, 'upload')
  writeFileSync(file, randomBytes(65_536))
  const plain = `http://127.0.0.1:${gateway.port()}/`
  const loads: readonly (readonly [string, number, readonly string[]])[] = [
    ['H2 to H2', 2_000, ['-c8', '-m32', plain]],
    ['H2 to H1', 2_000, ['-c8', '-m32', `http://127.0.0.1:${gateway.port('one')}/`]],
    ['H2 over TLS to H2', 2_000, ['-c8', '-m32', `https://127.0.0.1:${gateway.port('secure')}/`]],
    ['H1 to H2', 1_000, ['--h1', '-c8', '-m1', plain]],
    ['uploads of 64 KiB in small windows', 400, ['-c4', '-m8', '-w14', '-W15', `--data=${file}`, plain]],
    ['uploads to H1', 400, ['-c4', '-m8', `--data=${file}`, `http://127.0.0.1:${gateway.port('one')}/`]],
  ]
  for (const [name, requests, args] of loads) {
    const { status, out, err } = await run(program('h2load'), ['-n', String(requests), '-t1', '-T20', '-N20', ...args])
    const text = out.toString('utf8')
    t.equal(status, 0, `${name} ${err}`)
    t.match(
      text,
      new RegExp(
        `${requests} total, ${requests} started, ${requests} done, ${requests} succeeded, 0 failed, 0 errored, 0 timeout`,
      ),
      name,
    )
    t.match(text, new RegExp(`status codes: ${requests} 2xx, 0 3xx, 0 4xx, 0 5xx`), name)
  }
  await gateway.assertUnharmed(t)
})
