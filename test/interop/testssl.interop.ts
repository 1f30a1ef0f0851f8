import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import t from 'tap'
import { certificatesFor } from './certificates.ts'
import { startEcho } from './echo.ts'
import { cluster } from './envoy/group.ts'
import { startGateway } from './gateway.ts'
import { downstreamTls } from './gateway-config.ts'
import { run } from './process.ts'
import { needing, program } from './programs.ts'
import { folderFor } from './servers.ts'

/** testssl.sh looks for protocols and ciphers that nobody should speak any more, and for known weaknesses. */

t.setTimeout(600_000)

interface Finding {
  readonly id: string
  readonly severity: string
  readonly finding: string
}

/** Bounded: what it asks of ciphers one by one takes many minutes. */
const CHECKS = [
  '--protocols',
  '--std',
  '--heartbleed',
  '--ccs',
  '--ticketbleed',
  '--renegotiation',
  '--compression',
  '--poodle',
  '--freak',
  '--drown',
  '--logjam',
]

/** Of these a proxy with a certificate of the test's own making need not be ashamed. */
const HARMLESS = new Set(['OK', 'INFO', 'WARN', 'DEBUG'])

t.test('testssl.sh: no old protocol, no weak cipher, no known weakness', needing('testssl', 'openssl'), async (t) => {
  const [origin, certificates] = [await startEcho(t), await certificatesFor(t)]
  const pair = [await certificates.issue({ subject: 'CN=first', dns: ['first.test'] })]
  const gateway = await startGateway(t, [{ tls: downstreamTls(pair) }], [cluster('origin', [origin.port])])
  const report = join(folderFor(t), 'report.json')
  const { out, err } = await run(
    program('testssl'),
    ['--quiet', '--color', '0', '--warnings', 'off', '--ip', '127.0.0.1', '--nodns', 'none']
      .concat(CHECKS)
      .concat(['--jsonfile', report, `first.test:${gateway.port()}`]),
    { timeoutMs: 550_000 },
  )
  t.comment(`${out.toString('utf8')}${err}`)
  const findings = JSON.parse(readFileSync(report, 'utf8')) as Finding[]
  const found = new Map(findings.map(({ id, finding }) => [id, finding]))
  t.ok(findings.length > 20, `${findings.length} findings`)
  for (const old of ['SSLv2', 'SSLv3', 'TLS1', 'TLS1_1']) t.match(found.get(old), /not offered/, old)
  t.match(found.get('TLS1_2'), /^offered/)
  t.match(found.get('TLS1_3'), /^offered/)
  const bad = findings.filter(({ severity }) => !HARMLESS.has(severity))
  t.same(
    bad.map(({ id, severity, finding }) => `${severity} ${id}: ${finding}`),
    [],
  )
  await gateway.assertUnharmed(t)
})
