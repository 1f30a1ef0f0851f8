import { join } from 'node:path'
import t from 'tap'
import { isKnownGroup } from '../../lib/tls/groups.ts'
import { certificatesFor } from './certificates.ts'
import { startEcho } from './echo.ts'
import { cluster } from './envoy/group.ts'
import { startGateway } from './gateway.ts'
import { downstreamTls } from './gateway-config.ts'
import { run } from './process.ts'
import { needing, program, unable } from './programs.ts'
import { folderFor } from './servers.ts'

/** A client in Go, whose TLS is its own: post-quantum key exchange, demanded and offered. */

t.setTimeout(300_000)

const SOURCE = join(import.meta.dirname, 'go-pq', 'main.go')

const here = isKnownGroup('X25519MLKEM768')
  ? needing('go')
  : { skip: unable('this runtime has no post-quantum groups') }

t.test('Go: X25519MLKEM768 is agreed on, and demanded where it is demanded', here, async (t) => {
  const [origin, certificates] = [await startEcho(t), await certificatesFor(t)]
  const pair = [await certificates.issue({ subject: 'CN=first', dns: ['first.test'] })]
  const only = { tls_params: { ecdh_curves: ['X25519MLKEM768'] } }
  const gateway = await startGateway(
    t,
    [{ tls: downstreamTls(pair) }, { name: 'quantum', tls: downstreamTls(pair, only) }],
    [cluster('origin', [origin.port])],
  )
  const client = join(folderFor(t), 'go-pq')
  const built = await run(program('go'), ['build', '-o', client, SOURCE], { timeoutMs: 240_000 })
  t.equal(built.status, 0, built.err)
  const ask = async (listener: string, group: string): Promise<string> => {
    const args = [`127.0.0.1:${gateway.port(listener)}`, 'first.test', certificates.ca, group]
    return (await run(client, args, { timeoutMs: 20_000 })).out.toString('utf8').trim()
  }
  t.equal(await ask('ingress', 'default'), '200 HTTP/2.0 X25519MLKEM768')
  t.equal(await ask('ingress', 'X25519'), '200 HTTP/2.0 X25519')
  t.equal(await ask('quantum', 'X25519MLKEM768'), '200 HTTP/2.0 X25519MLKEM768')
  t.match(await ask('quantum', 'X25519'), /^error: .*handshake failure/)
  await gateway.assertUnharmed(t)
})
