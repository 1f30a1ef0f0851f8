import { spawnSync } from 'node:child_process'
import { existsSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import t, { type Test } from 'tap'
import { certificatesFor } from './certificates.ts'
import { type Data, TYPE } from './envoy/group.ts'
import { type Gateway, startGateway } from './gateway.ts'
import { downstreamTls } from './gateway-config.ts'
import { run } from './process.ts'
import { findProgram, needing, program, unable } from './programs.ts'
import { folderFor, freePort, launch, startHaproxy } from './servers.ts'

/** Who sends PROXY headers: curl in version 1, haproxy in both, nginx in version 1. */

t.setTimeout(180_000)

const LISTENER = `${TYPE}envoy.extensions.filters.listener`
const NAMESPACE = 'envoy.filters.listener.proxy_protocol'

/** TLVs by number, as response headers. */
const TLVS: Readonly<Record<string, number>> = { authority: 0x02, unique: 0x05, ssl: 0x20 }

const header = (key: string, value: string): Data => ({ header: { key, value } })

/** A listener that insists on a header, and whose responses say what it told. */
async function lab(t: Test, more: { readonly tls?: Data; readonly filter?: Data } = {}): Promise<Gateway> {
  const rules = Object.entries(TLVS).map(([key, type]) => ({
    tlv_type: type,
    on_tlv_present: { key, value_string_encoding: key === 'ssl' ? 'BASE64' : 'SANITIZED_UTF8' },
  }))
  const said = Object.keys(TLVS).map((key) => header(`x-${key}`, `%DYNAMIC_METADATA(${NAMESPACE}:${key})%`))
  return startGateway(
    t,
    [
      {
        ...(more.tls && { tls: more.tls }),
        listenerFilters: [
          {
            name: NAMESPACE,
            typed_config: { '@type': `${LISTENER}.proxy_protocol.v3.ProxyProtocol`, rules, ...more.filter },
          },
          { name: 'tls', typed_config: { '@type': `${LISTENER}.tls_inspector.v3.TlsInspector` } },
        ],
        routes: [
          {
            match: { prefix: '/' },
            direct_response: { status: 200, body: { inline_string: 'hello' } },
            response_headers_to_add: [
              header('x-client', '%DOWNSTREAM_REMOTE_ADDRESS%'),
              header('x-direct', '%DOWNSTREAM_DIRECT_REMOTE_ADDRESS%'),
              header('x-local', '%DOWNSTREAM_LOCAL_ADDRESS%'),
              ...said,
            ],
          },
        ],
      },
    ],
    [],
  )
}

interface Answer {
  /** curl's exit status. */
  readonly status: number
  readonly code: string
  readonly protocol: string
  /** Port that curl came from. */
  readonly port: string
  readonly fields: Readonly<Record<string, string>>
}

async function curl(url: string, ...args: readonly string[]): Promise<Answer> {
  const write = '\n%{http_code} %{http_version} %{local_port}'
  const { status, out } = await run(program('curl'), ['--silent', '-i', '--insecure', '-w', write, ...args, url])
  const lines = out.toString('latin1').split(/\r?\n/)
  const [code, protocol, port] = (lines.pop() ?? '').split(' ')
  const pairs = lines
    .flatMap((line) => [/^(x-[a-z]+): (.*)$/.exec(line)])
    .flatMap((m) => (m === null ? [] : [[m[1], m[2]]]))
  return { status, code, protocol, port, fields: Object.fromEntries(pairs) as Record<string, string> }
}

t.test('curl: version 1, before HTTP/1, HTTP/2 and TLS', needing('curl'), async (t) => {
  const plain = await lab(t)
  const url = `http://127.0.0.1:${plain.port()}/`
  for (const protocol of ['--http1.1', '--http2-prior-knowledge']) {
    const { code, port, fields } = await curl(url, protocol, '--haproxy-protocol')
    t.equal(code, '200', protocol)
    t.equal(fields['x-client'], `127.0.0.1:${port}`, 'curl tells its own address')
    t.equal(fields['x-direct'], `127.0.0.1:${port}`)
    t.equal(fields['x-local'], `127.0.0.1:${plain.port()}`)
  }
  const without = await curl(url)
  t.same([without.status === 0, without.code], [false, '000'], 'no header, no answer')
  await plain.assertUnharmed(t)

  const certificates = await certificatesFor(t)
  const tls = await lab(t, { tls: downstreamTls([await certificates.issue({ subject: 'CN=a', dns: ['a.test'] })]) })
  const both: [string, string][] = [
    ['--http1.1', '1.1'],
    ['--http2', '2'],
  ]
  for (const [option, protocol] of both) {
    const answer = await curl(`https://127.0.0.1:${tls.port()}/`, option, '--haproxy-protocol')
    t.same([answer.code, answer.protocol], ['200', protocol], option)
    t.equal(answer.fields['x-client'], `127.0.0.1:${answer.port}`)
  }
  await tls.assertUnharmed(t)
})

const curlFile = findProgram('curl')
const knowsClientIp =
  curlFile !== undefined && spawnSync(curlFile, ['--help', 'all']).stdout.toString().includes('--haproxy-clientip')

t.test(
  'curl: a client of its own choice',
  curlFile !== undefined && !knowsClientIp
    ? { skip: unable('this curl is older than 8.2 and has no --haproxy-clientip') }
    : needing('curl'),
  async (t) => {
    const gateway = await lab(t)
    for (const [ip, wanted] of [
      ['203.0.113.9', /^203\.0\.113\.9:\d+$/],
      ['2001:db8::9', /^\[2001:db8::9\]:\d+$/],
    ] as const) {
      const { code, fields } = await curl(`http://127.0.0.1:${gateway.port()}/`, '--haproxy-clientip', ip)
      t.equal(code, '200')
      t.match(fields['x-client'], wanted)
    }
    await gateway.assertUnharmed(t)
  },
)

t.test('haproxy: both versions, and a version that is not wanted', needing('haproxy', 'curl'), async (t) => {
  const gateway = await lab(t)
  for (const server of ['send-proxy', 'send-proxy-v2', 'send-proxy-v2 proxy-v2-options crc32c']) {
    const front = await startHaproxy(t, program('haproxy'), gateway.port(), { server })
    const { code, port, fields } = await curl(`http://127.0.0.1:${front}/`)
    t.equal(code, '200', server)
    t.equal(fields['x-client'], `127.0.0.1:${port}`, 'the client is curl')
    t.equal(fields['x-local'], `127.0.0.1:${front}`, 'which connected to haproxy')
    t.not(fields['x-direct'], fields['x-client'])
  }
  await gateway.assertUnharmed(t)
  const only2 = await lab(t, { filter: { disallowed_versions: ['V1'] } })
  const old = await startHaproxy(t, program('haproxy'), only2.port(), { server: 'send-proxy' })
  t.match((await curl(`http://127.0.0.1:${old}/`)).code, /^50[23]$/)
  t.ok((await only2.stat('proxy_proto.versions.v1.disallowed', 1)) >= 1)
})

t.test('haproxy: what version 2 tells besides', needing('haproxy', 'curl'), async (t) => {
  const gateway = await lab(t)
  const certificates = await certificatesFor(t)
  const { both } = await certificates.issue({ subject: 'CN=front', dns: ['front.test'] })
  const front = await startHaproxy(t, program('haproxy'), gateway.port(), {
    // The second line belongs to the frontend.
    bind: `ssl crt ${both}\n  unique-id-format unique-%ci`,
    server: 'send-proxy-v2 proxy-v2-options ssl,cert-cn,ssl-cipher,authority,unique-id,crc32c',
  })
  const { code, fields } = await curl(`https://front.test:${front}/`, '--resolve', `front.test:${front}:127.0.0.1`)
  t.equal(code, '200')
  t.equal(fields['x-authority'], 'front.test')
  t.equal(fields['x-unique'], 'unique-127.0.0.1')
  const ssl = Buffer.from(fields['x-ssl'] ?? '', 'base64').toString('latin1')
  t.equal(ssl.charCodeAt(0) & 1, 1, 'PP2_CLIENT_SSL')
  t.match(ssl, /TLSv1\.3/, 'the version that the client speaks to haproxy')
  await gateway.assertUnharmed(t)
})

/** The line that loads nginx's stream module; undefined: this nginx has none. */
function streamModule(): string | undefined {
  const built = spawnSync(program('nginx'), ['-V']).stderr.toString()
  if (/--with-stream(?:\s|$)/.test(built)) return ''
  const folder = /--modules-path=(\S+)/.exec(built)?.[1]
  const file = folder === undefined ? '' : join(folder, 'ngx_stream_module.so')
  return existsSync(file) ? `load_module ${file};` : undefined
}

const nginxFile = findProgram('nginx')

t.test(
  'nginx: a stream proxy in front',
  nginxFile !== undefined && streamModule() === undefined
    ? { skip: unable('this nginx has no stream module') }
    : needing('nginx', 'curl'),
  async (t) => {
    const gateway = await lab(t)
    const folder = folderFor(t)
    const port = await freePort()
    writeFileSync(
      join(folder, 'nginx.conf'),
      `${streamModule()}
daemon off;
worker_processes 1;
pid ${folder}/nginx.pid;
error_log stderr warn;
events { worker_connections 64; }
stream { server { listen 127.0.0.1:${port}; proxy_pass 127.0.0.1:${gateway.port()}; proxy_protocol on; } }
`,
    )
    await launch(t, program('nginx'), ['-p', folder, '-c', join(folder, 'nginx.conf'), '-e', 'stderr'], port)
    for (const protocol of ['--http1.1', '--http2-prior-knowledge']) {
      const { code, port: from, fields } = await curl(`http://127.0.0.1:${port}/`, protocol)
      t.same([code, fields['x-client'], fields['x-local']], ['200', `127.0.0.1:${from}`, `127.0.0.1:${port}`], protocol)
    }
    await gateway.assertUnharmed(t)
  },
)
