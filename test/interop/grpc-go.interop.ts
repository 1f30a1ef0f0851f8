import t, { type Test } from 'tap'
import { certificatesFor } from './certificates.ts'
import { type Gateway, startGateway } from './gateway.ts'
import { downstreamTls, http2Cluster, upstreamTls } from './gateway-config.ts'
import { run } from './process.ts'
import { needing, program } from './programs.ts'
import { freePort, launch } from './servers.ts'

/** grpc-go's interop client and server, one on each side of Headgate: the standard cases that need no credentials. */

t.setTimeout(300_000)

const CASES = [
  'empty_unary',
  'large_unary',
  'client_streaming',
  'server_streaming',
  'ping_pong',
  'empty_stream',
  'timeout_on_sleeping_server',
  'cancel_after_begin',
  'cancel_after_first_response',
  'status_code_and_message',
  'special_status_message',
  'custom_metadata',
  'unimplemented_method',
  'unimplemented_service',
] as const

const PROGRAMS = ['grpc-go-client', 'grpc-go-server'] as const

/** Streams have no end that a timeout should know. */
const ROUTES = [{ match: { prefix: '/', grpc: {} }, route: { cluster: 'origin', timeout: '0s' } }]

async function startServer(t: Test, ...more: readonly string[]): Promise<number> {
  const port = await freePort()
  await launch(t, program('grpc-go-server'), [`--port=${port}`, ...more], port)
  return port
}

async function runCases(t: Test, gateway: Gateway, ...more: readonly string[]): Promise<void> {
  for (const name of CASES) {
    const args = [`--server_port=${gateway.port()}`, `--test_case=${name}`, ...more]
    const { status, err } = await run(program('grpc-go-client'), ['--server_host=127.0.0.1', ...args], {
      timeoutMs: 20_000,
      env: { GRPC_GO_LOG_SEVERITY_LEVEL: 'info', HTTP_PROXY: '', HTTPS_PROXY: '' },
    })
    t.equal(status, 0, `${name} ${status === 0 ? '' : err}`)
    t.match(err, /\bdone\b/i, `${name} says that it is done`)
  }
  t.equal(await gateway.stat('cluster.origin.upstream_rq_active', 0), 0, 'no stream is left open upstream')
  t.equal(await gateway.stat('http.ingress.downstream_rq_active', 0), 0, 'nor downstream')
  await gateway.assertUnharmed(t)
}

t.test('grpc-go through Headgate in plaintext: every interop case', needing(...PROGRAMS), async (t) => {
  const port = await startServer(t)
  await runCases(t, await startGateway(t, [{ routes: ROUTES }], [http2Cluster('origin', port)]))
})

t.test('grpc-go through Headgate over TLS on both sides: every interop case', needing(...PROGRAMS), async (t) => {
  const certificates = await certificatesFor(t)
  const [front, back] = [
    await certificates.issue({ dns: ['front.test'] }),
    await certificates.issue({ dns: ['back.test'] }),
  ]
  const port = await startServer(t, '--use_tls', `--tls_cert_file=${back.chain}`, `--tls_key_file=${back.key}`)
  const socket = { transport_socket: upstreamTls(certificates.ca, 'back.test') }
  const listener = { routes: ROUTES, tls: downstreamTls([front]) }
  const gateway = await startGateway(t, [listener], [http2Cluster('origin', port, socket)])
  const trust = ['--use_tls', '--use_test_ca', `--ca_file=${certificates.ca}`, '--server_host_override=front.test']
  await runCases(t, gateway, ...trust)
})

t.test(
  'grpc-go’s soak: many calls of 300 KiB each over several threads, none fails',
  needing(...PROGRAMS),
  async (t) => {
    const port = await startServer(t)
    const gateway = await startGateway(t, [{ routes: ROUTES }], [http2Cluster('origin', port)])
    const { status, err } = await run(program('grpc-go-client'), [
      ...['--server_host=127.0.0.1', `--server_port=${gateway.port()}`, '--test_case=rpc_soak'],
      ...['--soak_iterations=200', '--soak_num_threads=4', '--soak_overall_timeout_seconds=50'],
      '--soak_per_iteration_max_acceptable_latency_ms=20000',
    ])
    t.equal(status, 0, err.slice(-2_000))
    t.match(err, /successes: 200 \/ 200 iterations\. Total failures: 0\b/)
    await gateway.assertUnharmed(t)
  },
)
