import { createGateway, formatAddress, type HttpFilter } from 'headgate'

const users: ReadonlyMap<string, string> = new Map([['secret', 'alice']])

/** Lets requests with a known API key pass, and tells the upstream whose it is. One object for all requests. */
const apiKeys: HttpFilter = {
  onRequestHeaders(stream) {
    const user = users.get(stream.request.get('x-api-key') ?? '')
    if (user === undefined) return stream.reply({ status: 401, body: 'who are you?\n', details: 'api_key_missing' })
    stream.request.delete('x-api-key')
    stream.request.set('x-user', user)
  },
}

const gateway = createGateway({
  listeners: [
    {
      name: 'main',
      address: process.env.LISTEN ?? '127.0.0.1:10000',
      http: {
        filters: [{ name: 'api-keys', filter: apiKeys }],
        routes: [
          {
            match: { exact: '/health' },
            action: { kind: 'direct', status: 200, body: 'fine\n' },
            filterConfigs: { 'api-keys': false },
          },
          {
            name: 'api',
            match: { pathSeparatedPrefix: '/api', methods: ['GET', 'POST'] },
            action: { kind: 'route', cluster: 'app', pathRewrite: { prefix: '/v1' }, timeoutMs: 5_000 },
            requestHeaders: { set: { 'x-client': '%DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT%' } },
            responseHeaders: { remove: ['x-powered-by'], set: { 'x-served-by': 'headgate' } },
          },
        ],
        accessLogs: [{ format: { json: { path: '%PATH(NQ)%', status: '%RESPONSE_CODE%', route: '%ROUTE_NAME%' } } }],
      },
    },
  ],
  clusters: [{ name: 'app', endpoints: [process.env.UPSTREAM ?? '127.0.0.1:3000'] }],
})

await gateway.start()
console.log(`listening on http://${formatAddress(gateway.addresses.main[0])}`)
process.once('SIGTERM', () => gateway.close({ drainMs: 10_000 }))
