import { execFileSync } from 'node:child_process'
import { existsSync, mkdirSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { createGateway, formatAddress, type NativeConfig, type NativeHttp } from 'headgate'

const folder = process.env.CERTIFICATES ?? join(tmpdir(), 'headgate-post-quantum')
if (!existsSync(join(folder, 'tls.crt'))) makeCertificate()

/** A certificate of its own making; what the key exchange does is independent of it. */
function makeCertificate(): void {
  mkdirSync(folder, { recursive: true })
  const key = ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256', '-nodes', '-keyout', join(folder, 'tls.key')]
  const names = ['-subj', '/CN=localhost', '-addext', 'subjectAltName=DNS:localhost']
  execFileSync('openssl', ['req', '-x509', ...key, '-out', join(folder, 'tls.crt'), ...names], { stdio: 'ignore' })
}

const certificates = [
  { certificateChain: { file: join(folder, 'tls.crt') }, privateKey: { file: join(folder, 'tls.key') } },
]

// Tells each client what was agreed on.
const http: NativeHttp = {
  routes: [
    {
      match: {},
      responseHeaders: { set: { 'x-group': '%DOWNSTREAM_TLS_GROUP%' } },
      action: { kind: 'direct', status: 200, body: 'hello\n' },
    },
  ],
}

const port = (number: number): string => `127.0.0.1:${process.env.ANY_PORT === undefined ? number : 0}`
const listeners: NativeConfig['listeners'] = [
  // The default: X25519MLKEM768 where the client has it, X25519 or P-256 otherwise.
  { name: 'hybrid', address: port(10443), tls: { certificates }, http },
  // Nobody gets in whose traffic could be read later.
  {
    name: 'strict',
    address: port(10444),
    tls: {
      certificates,
      minVersion: 'TLSv1.3',
      groups: ['X25519MLKEM768', 'SecP256r1MLKEM768', 'SecP384r1MLKEM1024'],
    },
    http,
  },
]

const gateway = createGateway({ listeners })
await gateway.start()
for (const [name, [address]] of Object.entries(gateway.addresses)) {
  console.log(`${name} listens on https://${formatAddress(address)}`)
}
process.once('SIGTERM', () => gateway.close())
