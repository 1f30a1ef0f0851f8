import { createGateway, formatAddress } from 'headgate'

const list = (value: string | undefined, otherwise: string): string[] => (value ?? otherwise).split(',')

const gateway = createGateway({
  listeners: [
    {
      name: 'main',
      address: process.env.LISTEN ?? '127.0.0.1:10000',
      http: {
        virtualHosts: [
          {
            name: 'all',
            domains: ['*'],
            includeAttemptCountInResponse: true,
            routes: [
              // Reading may be done twice: whatever goes wrong is tried once more, elsewhere.
              {
                match: { prefix: '/', methods: ['GET', 'HEAD'] },
                action: {
                  kind: 'route',
                  cluster: 'app',
                  retry: {
                    on: ['5xx'],
                    retries: 2,
                    perTryTimeoutMs: 2_000,
                    avoid: { previous: true },
                    otherPriorities: true,
                  },
                },
              },
              // Everything else only where nobody can have looked at it.
              {
                match: { prefix: '/' },
                action: {
                  kind: 'route',
                  cluster: 'app',
                  retry: { on: ['connect-failure', 'refused-stream', 'reset-before-request'] },
                },
              },
            ],
          },
        ],
      },
    },
  ],
  clusters: [
    {
      name: 'app',
      localities: [
        { locality: { zone: 'here' }, endpoints: list(process.env.HERE, '127.0.0.1:3001,127.0.0.1:3002') },
        // Used where too few of those are well.
        { locality: { zone: 'there' }, priority: 1, endpoints: list(process.env.THERE, '127.0.0.1:3003') },
      ],
      healthCheck: {
        http: { path: '/health' },
        intervalMs: 1_000,
        timeoutMs: 500,
        unhealthyThreshold: 2,
        healthyThreshold: 1,
      },
    },
  ],
})

await gateway.start()
console.log(`listening on http://${formatAddress(gateway.addresses.main[0])}`)
process.once('SIGTERM', () => gateway.close({ drainMs: 5_000 }))
