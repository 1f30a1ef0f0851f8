import { createGateway, formatAddress, loadEnvoyConfig } from 'headgate'

const gateway = createGateway(loadEnvoyConfig(process.argv[2] ?? new URL('config.yaml', import.meta.url)))
await gateway.start()
for (const [name, [address]] of Object.entries(gateway.addresses)) {
  console.log(`${name} listens on http://${formatAddress(address)}`)
}
process.once('SIGTERM', () => gateway.close())
