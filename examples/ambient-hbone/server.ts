import { join } from 'node:path'
import { createGateway, formatAddress } from 'headgate'

/** The application's side: lets workloads of the mesh in, and only to the application. */

const certificates = process.env.CERTIFICATES ?? 'certificates'
const application = process.env.APPLICATION ?? '127.0.0.1:3000'

const gateway = createGateway({
  listeners: [],
  clusters: [{ name: 'application', endpoints: [application] }],
  hbone: [
    {
      address: process.env.LISTEN ?? '127.0.0.1:15008',
      identity: {
        certificate: {
          certificateChain: { file: join(certificates, 'server.pem') },
          privateKey: { file: join(certificates, 'server.key') },
        },
        trustedCa: { file: join(certificates, 'root.pem') },
      },
      trustDomains: ['cluster.local'],
      targets: [
        { ports: [22], forbidden: true },
        { hosts: ['127.0.0.1'], ports: [Number(application.split(':').at(-1))], cluster: 'application' },
      ],
    },
  ],
})

await gateway.start()
console.log(`listening on ${formatAddress(gateway.addresses.hbone[0])}`)
process.once('SIGTERM', () => gateway.close())
