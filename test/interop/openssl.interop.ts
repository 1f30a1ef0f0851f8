import { spawnSync } from 'node:child_process'
import { once } from 'node:events'
import { connect } from 'node:tls'
import t, { type Test } from 'tap'
import { isKnownGroup } from '../../lib/tls/groups.ts'
import { type CertificateFolder, certificatesFor } from './certificates.ts'
import { startEcho } from './echo.ts'
import { cluster } from './envoy/group.ts'
import { type Gateway, startGateway } from './gateway.ts'
import { downstreamTls } from './gateway-config.ts'
import { run } from './process.ts'
import { findProgram, needing, program, unable } from './programs.ts'

/** openssl s_client looks at the TLS of a listener: versions, ALPN, the certificate for a name, key exchange groups. */

t.setTimeout(180_000)

/** What one handshake came to. */
interface Handshake {
  readonly version: string | undefined
  readonly alpn: string | undefined
  /** Subject of the server's certificate. */
  readonly subject: string | undefined
  readonly group: string | undefined
  /** The chain is trusted and names the server. */
  readonly verified: boolean
  /** Names of the alert that ended it. */
  readonly alert: string | undefined
}

interface Lab {
  readonly gateway: Gateway
  readonly certificates: CertificateFolder
}

/** Two certificates in one chain; the listeners differ in their parameters. */
async function lab(t: Test): Promise<Lab> {
  const [origin, certificates] = [await startEcho(t), await certificatesFor(t)]
  const pair = [
    await certificates.issue({ subject: 'CN=first', dns: ['first.test'] }),
    await certificates.issue({ subject: 'CN=second', dns: ['second.test', '*.wild.test'] }),
  ]
  const only = (version: string): object => ({
    tls_params: { tls_minimum_protocol_version: version, tls_maximum_protocol_version: version },
  })
  const gateway = await startGateway(
    t,
    [
      { tls: downstreamTls(pair) },
      { name: 'only12', tls: downstreamTls(pair, { ...only('TLSv1_2') }) },
      { name: 'only13', tls: downstreamTls(pair, { ...only('TLSv1_3') }) },
    ],
    [cluster('origin', [origin.port])],
  )
  return { gateway, certificates }
}

async function handshake(lab: Lab, args: readonly string[], listener = 'ingress'): Promise<Handshake> {
  const port = lab.gateway.port(listener)
  const { out, err } = await run(
    program('openssl'),
    ['s_client', '-connect', `127.0.0.1:${port}`, '-CAfile', lab.certificates.ca, '-verify_return_error', ...args],
    { timeoutMs: 20_000 },
  )
  const text = out.toString('utf8') + err
  const found = (pattern: RegExp): string | undefined => pattern.exec(text)?.[1]
  return {
    version: found(/^New, (TLSv[\d.]+), Cipher is (?!\(NONE\))/m),
    alpn: found(/^ALPN protocol: (\S+)/m),
    subject: found(/^subject=(.*)$/m)?.replaceAll(' ', ''),
    group: found(/^(?:Negotiated TLS1\.3 group|Server Temp Key|Peer Temp Key): ([^,\n]+)/m),
    verified: /^\s*Verify return code: 0 \(ok\)/m.test(text),
    alert: found(/alert ([a-z ]+?)(?::|\s*$)/m)?.trim(),
  }
}

t.test('openssl: TLS 1.2 and 1.3, nothing older, and each alone where configured so', needing('openssl'), async (t) => {
  const bench = await lab(t)
  const name = ['-servername', 'first.test', '-verify_hostname', 'first.test']
  for (const [option, version] of [
    ['-tls1_2', 'TLSv1.2'],
    ['-tls1_3', 'TLSv1.3'],
  ]) {
    const both = await handshake(bench, [option, ...name])
    t.same([both.version, both.verified], [version, true], option)
    for (const [listener, alone] of [
      ['only12', 'TLSv1.2'],
      ['only13', 'TLSv1.3'],
    ]) {
      const { version: got, alert } = await handshake(bench, [option, ...name], listener)
      if (alone === version) t.equal(got, version, `${option} to ${listener}`)
      else t.same([got, alert], [undefined, 'protocol version'], `${option} to ${listener}`)
    }
  }
  // A client that would do it, by its own security level.
  const old = await handshake(bench, ['-tls1_1', '-cipher', 'ALL:@SECLEVEL=0', ...name])
  t.equal(old.version, undefined, 'no TLS 1.1')
  await bench.gateway.assertUnharmed(t)
})

t.test('openssl: ALPN chooses h2, then http/1.1, and may be left out', needing('openssl'), async (t) => {
  const bench = await lab(t)
  const alpn = async (...args: string[]): Promise<string | undefined> => (await handshake(bench, args)).alpn
  t.equal(await alpn('-alpn', 'h2'), 'h2')
  t.equal(await alpn('-alpn', 'http/1.1,h2'), 'h2', 'the server’s order counts')
  t.equal(await alpn('-alpn', 'http/1.1'), 'http/1.1')
  const without = await handshake(bench, [])
  t.same([without.version, without.alpn], ['TLSv1.3', undefined])
  await bench.gateway.assertUnharmed(t)
})

t.test('openssl: SNI chooses the certificate', needing('openssl'), async (t) => {
  const bench = await lab(t)
  const choose = async (name: string): Promise<unknown[]> => {
    const { subject, verified } = await handshake(bench, ['-servername', name, '-verify_hostname', name])
    return [subject, verified]
  }
  t.same(await choose('first.test'), ['CN=first', true])
  t.same(await choose('second.test'), ['CN=second', true])
  t.same(await choose('SECOND.test'), ['CN=second', true], 'in any case')
  t.same(await choose('any.wild.test'), ['CN=second', true])
  t.equal((await handshake(bench, ['-noservername'])).subject, 'CN=first', 'the first one without SNI')
  t.equal((await handshake(bench, ['-servername', 'other.test'])).subject, 'CN=first', 'and for unknown names')
  await bench.gateway.assertUnharmed(t)
})

t.test('openssl: key exchange in X25519 and P-256', needing('openssl'), async (t) => {
  const bench = await lab(t)
  // How the same group is called differs from version to version.
  for (const [group, shown] of [
    ['X25519', /^x25519$/i],
    ['P-256', /^(ECDH|secp256r1|prime256v1)$/],
  ] as const) {
    const { version, group: got } = await handshake(bench, ['-groups', group])
    t.equal(version, 'TLSv1.3')
    t.match(got ?? '', shown)
  }
  await bench.gateway.assertUnharmed(t)
})

/** The hybrid of ML-KEM came with OpenSSL 3.5. */
function withoutMlKem(): string | false {
  const file = findProgram('openssl')
  if (file === undefined) return needing('openssl').skip
  const asked = spawnSync(file, ['s_client', '-groups', 'X25519MLKEM768', '-connect', '127.0.0.1:9'], {
    encoding: 'utf8',
    timeout: 10_000,
  })
  // Without the group it says so; with it, nobody listens on port 9.
  return /connect/i.test(asked.stderr) && !/groups/i.test(asked.stderr)
    ? false
    : unable('this openssl does not know X25519MLKEM768 (3.5 does)')
}

t.test('openssl: key exchange in X25519MLKEM768', { skip: withoutMlKem(), timeout: 60_000 }, async (t) => {
  const bench = await lab(t)
  const hybrid = await handshake(bench, ['-groups', 'X25519MLKEM768', '-servername', 'first.test'])
  t.same([hybrid.version, hybrid.group], ['TLSv1.3', 'X25519MLKEM768'])
  await bench.gateway.assertUnharmed(t)
})

/** The client of OpenSSL 3.5 that is always here: the runtime's own. */
t.test('openssl: hybrid groups with the client of Node', { skip: withoutHybrids() }, async (t) => {
  const [origin, certificates] = [await startEcho(t), await certificatesFor(t)]
  const pair = [await certificates.issue({ subject: 'CN=first', dns: ['first.test'] })]
  const hybrids = ['X25519MLKEM768', 'SecP256r1MLKEM768', 'SecP384r1MLKEM1024']
  const gateway = await startGateway(
    t,
    [
      { tls: downstreamTls(pair) },
      { name: 'quantum', tls: downstreamTls(pair, { tls_params: { ecdh_curves: hybrids } }) },
    ],
    [cluster('origin', [origin.port])],
  )
  const agreed = async (listener: string, ecdhCurve: string): Promise<string> => {
    const port = gateway.port(listener)
    const socket = connect({ host: '127.0.0.1', port, servername: 'first.test', ca: certificates.caPem, ecdhCurve })
    const ended = await Promise.race([
      once(socket, 'secureConnect').then(() => (socket.getEphemeralKeyInfo() as { name?: string }).name ?? ''),
      once(socket, 'error').then(([error]) => (error as { code: string }).code),
    ]).catch((error: unknown) => (error as { code: string }).code)
    socket.destroy()
    return ended
  }
  for (const group of hybrids) t.equal(await agreed('quantum', group), group)
  t.equal(await agreed('ingress', 'X25519MLKEM768:X25519'), 'X25519MLKEM768')
  t.match(await agreed('quantum', 'X25519:P-256'), /HANDSHAKE_FAILURE/)
  await gateway.assertUnharmed(t)
})

function withoutHybrids(): string | false {
  return isKnownGroup('X25519MLKEM768') ? false : unable('this runtime has no post-quantum groups')
}
