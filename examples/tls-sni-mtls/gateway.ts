import { existsSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import {
  createGateway,
  formatAddress,
  type NativeCertificate,
  type NativeConfig,
  type NativeDownstreamTls,
  type NativeHttp,
} from 'headgate'
import { makeCertificates } from './certificates.ts'

const folder = process.env.CERTIFICATES ?? join(tmpdir(), 'headgate-certificates')
if (!existsSync(join(folder, 'ca.crt'))) await makeCertificates(folder)

const file = (name: string): { readonly file: string } => ({ file: join(folder, name) })
const pair = (name: string): NativeCertificate => ({
  certificateChain: file(`${name}.crt`),
  privateKey: file(`${name}.key`),
})

// The first is for clients that name no server, or one that nobody has.
const certificates = [pair('shop'), pair('api')]

// Whoever has a certificate of the authority with a name in this domain.
const known: NativeDownstreamTls['validation'] = {
  trustedCa: file('ca.crt'),
  sans: [{ type: 'uri', match: { prefix: 'spiffe://example/' } }],
}

// Says who the client is known to be: a certificate that was not verified says nothing.
const http: NativeHttp = {
  routes: [
    {
      match: {},
      responseHeaders: { set: { 'x-you-are': '%DOWNSTREAM_PEER_URI_SAN%', 'x-tls': '%DOWNSTREAM_TLS_VERSION%' } },
      action: { kind: 'direct', status: 200, body: 'hello\n' },
    },
  ],
}

function listener(name: string, port: string, tls: NativeDownstreamTls): NativeConfig['listeners'][number] {
  return { name, address: `127.0.0.1:${process.env.ANY_PORT === undefined ? port : 0}`, tls, http }
}

const gateway = createGateway({
  listeners: [
    // Nobody is asked who they are.
    listener('open', '10443', { certificates }),
    // A certificate that is not good, or none, ends the connection.
    listener('strict', '10444', { certificates, validation: known }),
    // Anybody gets in; only a good certificate gives an identity.
    listener('lenient', '10445', {
      certificates,
      validation: { ...known, acceptUntrusted: true },
      requireClientCertificate: false,
    }),
  ],
})
await gateway.start()
for (const [name, [address]] of Object.entries(gateway.addresses)) {
  console.log(`${name} listens on https://${formatAddress(address)}`)
}
process.once('SIGTERM', () => gateway.close())
