import { randomBytes } from 'node:crypto'
import { mkdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import t from 'tap'
import { startEcho } from './echo.ts'
import { exchangeBodies, hash, MIB } from './exchange-bodies.ts'
import { gatewayBefore } from './gateway.ts'
import { run } from './process.ts'
import { needing, program } from './programs.ts'
import { folderFor, startHaproxy, startNginx } from './servers.ts'

// tap ends a file after 30 s unless told otherwise.
t.setTimeout(600_000)

t.test(
  'curl: bodies both ways, chunked upload, 100-continue, HEAD, one connection for all',
  needing('curl'),
  async (t) => {
    const origin = await startEcho(t)
    const url = `http://127.0.0.1:${await gatewayBefore(t, origin.port)}/echo`
    const sent = randomBytes(MIB)
    const silent = ['--silent', '--show-error', '--fail']
    const whole = await run(program('curl'), [...silent, '--data-binary', '@-', url], { input: sent })
    t.same([whole.status, hash(whole.out)], [0, hash(sent)], '1 MiB; curl asks for 100-continue by itself')
    const chunked = await run(
      program('curl'),
      [...silent, '-H', 'Transfer-Encoding: chunked', '-H', 'Expect: 100-continue', '--data-binary', '@-', url],
      { input: sent },
    )
    t.same([chunked.status, hash(chunked.out)], [0, hash(sent)], '1 MiB in chunks')
    const head = await run(program('curl'), [...silent, '--head', url])
    t.match(head.out.toString('latin1'), /^HTTP\/1\.1 200 OK\r\n[\s\S]*x-method: HEAD\r\n/)
    const quiet = ['-o', '/dev/null', '-o', '/dev/null', '-o', '/dev/null']
    const three = await run(program('curl'), [
      ...silent,
      '-w',
      '%{num_connects} %{http_code}\n',
      ...quiet,
      url,
      url,
      url,
    ])
    t.equal(three.out.toString('latin1'), '1 200\n0 200\n0 200\n', 'the connection is kept')
    const old = await run(program('curl'), ['--silent', '--http1.0', '-o', '/dev/null', '-w', '%{http_code}', url])
    t.equal(old.out.toString('latin1'), '426')
  },
)

t.test('wrk: thousands of requests over kept connections, no error', needing('wrk'), async (t) => {
  const origin = await startEcho(t)
  const url = `http://127.0.0.1:${await gatewayBefore(t, origin.port)}/`
  const { status, out } = await run(program('wrk'), ['-t1', '-c16', '-d2s', url])
  const text = out.toString('utf8')
  t.equal(status, 0)
  t.notMatch(text, /Socket errors|Non-2xx/)
  const requests = Number(/(\d+) requests in/.exec(text)?.[1])
  t.ok(requests > 100, `${requests} requests`)
  t.ok(origin.requests() >= requests, 'each was the origin’s')
  t.ok(origin.connections() <= 16, `${origin.connections()} connections to the origin`)
})

t.test(
  'nginx behind: files with ranges and validators, its keep-alive end is survived',
  needing('nginx'),
  async (t) => {
    const folder = folderFor(t)
    mkdirSync(join(folder, 'files'))
    const content = randomBytes(MIB)
    writeFileSync(join(folder, 'files', 'one'), content)
    // Each connection ends after 3 requests, or after 1 s: what a pool must cope with.
    const nginx = await startNginx(
      t,
      program('nginx'),
      `location / { root ${folder}/files; }`,
      'keepalive_requests 3; keepalive_timeout 1s;',
    )
    const gateway = await gatewayBefore(t, nginx)
    const url = `http://127.0.0.1:${gateway}/one`
    for (let i = 0; i < 12; i++) {
      const response = await fetch(url)
      t.same([response.status, hash(Buffer.from(await response.arrayBuffer()))], [200, hash(content)])
    }
    const part = await fetch(url, { headers: { range: 'bytes=100-199' } })
    t.same([part.status, Buffer.from(await part.arrayBuffer())], [206, content.subarray(100, 200)])
    const etag = part.headers.get('etag') ?? ''
    t.equal((await fetch(url, { headers: { 'if-none-match': etag } })).status, 304)
    t.equal((await fetch(`${url}/nothing`)).status, 404)
    // The kept connections die in the meantime.
    await sleep(1_200)
    for (let i = 0; i < 5; i++) t.equal((await fetch(url, { method: 'HEAD' })).status, 200)
  },
)

t.test('nginx behind: its proxy module takes what Headgate sends, chunks and lengths', needing('nginx'), async (t) => {
  const origin = await startEcho(t)
  const nginx = await startNginx(
    t,
    program('nginx'),
    `location / { proxy_pass http://127.0.0.1:${origin.port}; proxy_http_version 1.1; proxy_request_buffering off; proxy_set_header Connection ""; }`,
  )
  await exchangeBodies(t, await gatewayBefore(t, nginx))
})

t.test('nginx in front: kept connections, chunked uploads, large bodies', needing('nginx'), async (t) => {
  const origin = await startEcho(t)
  const gateway = await gatewayBefore(t, origin.port)
  const nginx = await startNginx(
    t,
    program('nginx'),
    'location / { proxy_pass http://headgate; proxy_http_version 1.1; proxy_request_buffering off; proxy_set_header Connection ""; }',
    `upstream headgate { server 127.0.0.1:${gateway}; keepalive 8; }`,
  )
  await exchangeBodies(t, nginx)
})

t.test(
  'haproxy behind and in front: kept connections, chunked uploads, large bodies',
  needing('haproxy'),
  async (t) => {
    const origin = await startEcho(t)
    const behind = await startHaproxy(t, program('haproxy'), origin.port)
    const gateway = await gatewayBefore(t, behind)
    const front = await startHaproxy(t, program('haproxy'), gateway)
    await exchangeBodies(t, gateway)
    await exchangeBodies(t, front)
  },
)

t.test('wrk through haproxy through Headgate: no error', needing('wrk', 'haproxy'), async (t) => {
  const origin = await startEcho(t)
  const front = await startHaproxy(t, program('haproxy'), await gatewayBefore(t, origin.port))
  const { status, out } = await run(program('wrk'), ['-t1', '-c16', '-d2s', `http://127.0.0.1:${front}/`])
  t.equal(status, 0)
  t.notMatch(out.toString('utf8'), /Socket errors|Non-2xx/)
})
