import { once } from 'node:events'
import { mkdtempSync, rmSync } from 'node:fs'
import type { IncomingMessage } from 'node:http'
import http from 'node:http'
import type { AddressInfo } from 'node:net'
import { tmpdir } from 'node:os'
import type { Test } from 'tap'
import t from 'tap'
import { createGateway, type Gateway, loadEnvoyConfig } from '../../lib/cli/library.ts'
import { createProtoRegistry } from '../../lib/proto/registry.ts'
import { ControlPlane, XDS } from '../support/control-plane.ts'
import {
  adsBootstrap,
  assignmentResource,
  clusterResource,
  listenerResource,
  routesResource,
} from '../support/xds-gateway.ts'

const registry = createProtoRegistry()

async function get(url: string): Promise<string> {
  const [res] = (await once(http.get(url, { agent: false }), 'response')) as [IncomingMessage]
  let body = ''
  for await (const chunk of res) body += chunk
  return `${res.statusCode} ${body}`
}

/** Asks until the answer is as wanted; the test's own time limit ends it otherwise. */
async function until<V>(ask: () => Promise<V> | V, wanted: (value: V) => boolean): Promise<V> {
  for (;;) {
    const value = await ask()
    if (wanted(value)) return value
    await new Promise((resolve) => setTimeout(resolve, 5))
  }
}

async function origin(t: Test, name: string): Promise<number> {
  const server = http.createServer((_, res) => res.end(name)).listen(0, '127.0.0.1')
  await once(server, 'listening')
  t.teardown(() => {
    server.close()
    server.closeAllConnections()
  })
  return (server.address() as AddressInfo).port
}

async function controlPlane(t: Test, ...ports: number[]): Promise<ControlPlane> {
  const plane = await ControlPlane.start({ registry })
  t.teardown(() => plane.close())
  plane.set(XDS.cluster, [clusterResource('web')])
  plane.set(XDS.endpoints, [assignmentResource('web', ...ports)])
  plane.set(XDS.listener, [listenerResource('ingress')])
  plane.set(XDS.routes, [routesResource('web', '1')])
  return plane
}

function urlOf(gateway: Gateway, listener = 'ingress'): string | undefined {
  const address = gateway.addresses[listener]?.[0]
  return address?.kind === 'ip' ? `http://127.0.0.1:${address.port}` : undefined
}

async function stateOf(gateway: Gateway): Promise<string> {
  const { adminAddress } = gateway
  return adminAddress?.kind === 'ip' ? await get(`http://127.0.0.1:${adminAddress.port}/ready`) : ''
}

t.test('a gateway in this process follows its control plane, also to another one', async (t) => {
  const [first, second] = await Promise.all([origin(t, 'first'), origin(t, 'second')])
  const plane = await controlPlane(t, first)
  plane.hold()
  await using gateway = createGateway(loadEnvoyConfig(adsBootstrap(plane.port)), {
    log: { debug() {}, info() {}, warn() {}, error() {} },
  })
  await gateway.start()
  t.match(await stateOf(gateway), /^503 INITIALIZING/)
  t.same(gateway.addresses, {}, 'nothing is static')
  plane.release()
  await until(
    () => stateOf(gateway),
    (state) => state.startsWith('200 LIVE'),
  )
  const url = urlOf(gateway) as string
  t.equal(await get(url), '200 first')
  plane.set(XDS.endpoints, [assignmentResource('web', second)])
  await until(
    () => get(url),
    (answer) => answer === '200 second',
  )
  const { counters, gauges } = gateway.stats()
  t.equal(new Map(gauges).get('control_plane.connected_state'), 1)
  t.ok((new Map(counters).get('cluster.xds.upstream_rq_total') ?? 0) >= 1, 'of the streams themselves')

  // Another control plane, which has another listener: what the first one brought stays until it has answered.
  const other = await controlPlane(t, first)
  other.set(XDS.listener, [listenerResource('other')])
  other.hold()
  const streams = plane.streams.length
  await gateway.apply(loadEnvoyConfig(adsBootstrap(other.port)))
  t.equal(await get(url), '200 second')
  t.equal(streams, 1)
  await until(
    () => plane.streams.length,
    (open) => open === 0,
  )
  other.release()
  await until(
    () => urlOf(gateway),
    (there) => there === undefined,
  )
  t.equal(await get(`${urlOf(gateway, 'other')}`), '200 first')

  await gateway.close()
  await until(
    () => other.streams.length,
    (open) => open === 0,
  )
})

t.test('what control planes sent is there at the next start without them, where it is kept', async (t) => {
  const stateDir = mkdtempSync(`${tmpdir()}/hg-`)
  t.teardown(() => rmSync(stateDir, { recursive: true, force: true }))
  const plane = await controlPlane(t, await origin(t, 'kept'))
  const options = { stateDir, log: { debug() {}, info() {}, warn() {}, error() {} } }
  {
    await using gateway = createGateway(loadEnvoyConfig(adsBootstrap(plane.port)), options)
    await gateway.start()
    await until(
      () => stateOf(gateway),
      (state) => state.startsWith('200 LIVE'),
    )
  }
  await plane.stop()
  await using gateway = createGateway(loadEnvoyConfig(adsBootstrap(plane.port)), options)
  await gateway.start()
  const url = await until(
    () => urlOf(gateway),
    (there) => there !== undefined,
  )
  t.equal(await get(`${url}`), '200 kept')
})

t.test('closing while it starts ends it', async (t) => {
  const plane = await controlPlane(t, 1)
  const gateway = createGateway(loadEnvoyConfig(adsBootstrap(plane.port)))
  const started = gateway.start().catch((error: Error) => error.message)
  await gateway.close()
  const outcome = await started
  t.ok(outcome === undefined || /closed/.test(outcome))
  t.same(gateway.addresses, {})
})
