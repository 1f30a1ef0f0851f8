import { join } from 'node:path'
import { createGateway, formatAddress } from 'headgate'

/** The client's side: takes plain HTTP, and sends it to the application through a tunnel. */

const certificates = process.env.CERTIFICATES ?? 'certificates'
const application = process.env.APPLICATION ?? '127.0.0.1:3000'

const gateway = createGateway({
  listeners: [
    {
      name: 'main',
      address: process.env.LISTEN ?? '127.0.0.1:10000',
      http: { routes: [{ match: {}, action: { kind: 'route', cluster: 'application' } }] },
    },
  ],
  clusters: [
    {
      name: 'application',
      endpoints: [application],
      hbone: {
        identity: {
          certificate: {
            certificateChain: { file: join(certificates, 'client.pem') },
            privateKey: { file: join(certificates, 'client.key') },
          },
          trustedCa: { file: join(certificates, 'root.pem') },
        },
        // Nobody else may answer at that address.
        identities: ['spiffe://cluster.local/ns/demo/sa/server'],
        port: Number(process.env.HBONE_PORT ?? 15_008),
        headers: { baggage: 'k8s.namespace.name=demo,service.name=client' },
      },
    },
  ],
})

await gateway.start()
console.log(`listening on http://${formatAddress(gateway.addresses.main[0])}`)
process.once('SIGTERM', () => gateway.close())
