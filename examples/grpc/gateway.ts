import { createGateway, formatAddress, loadEnvoyConfig } from 'headgate'

const gateway = createGateway(loadEnvoyConfig(process.argv[2] ?? new URL('config.yaml', import.meta.url)))
await gateway.start()
console.log(`listening on http://${formatAddress(gateway.addresses.ingress[0])}`)
process.once('SIGTERM', () => gateway.close())
