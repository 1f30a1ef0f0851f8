import { createGateway, formatAddress, loadEnvoyConfig } from 'headgate'
import { requestTag } from './request-tag.ts'

const file = process.argv[2] ?? new URL('config.yaml', import.meta.url)
const gateway = createGateway(loadEnvoyConfig(file, { filters: [requestTag] }))
await gateway.start()
console.log(`listening on http://${formatAddress(gateway.addresses.ingress[0])}`)
process.once('SIGTERM', () => gateway.close())
