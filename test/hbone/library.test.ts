import { once } from 'node:events'
import t from 'tap'
import { ConfigRefused } from '../../lib/core/errors.ts'
import { connectHbone } from '../../lib/upstream/hbone/connect.ts'
import type { Issued } from '../support/certificates.ts'
import { settle } from '../support/clock.ts'
import { HboneServer, joinTo, Mesh, spiffe } from './peers.ts'

function material(mesh: Mesh, issued: Issued): { certificateChain: string; privateKey: string; trustedCa: string } {
  return { certificateChain: issued.chain, privateKey: issued.key, trustedCa: mesh.authority.pem }
}

t.test('a tunnel of the library: bytes both ways, half-close, and its connection goes with it', async (t) => {
  const mesh = await Mesh.create()
  const server = await HboneServer.start(t, mesh, await mesh.workload('server'))
  const tls = material(mesh, await mesh.workload('client'))
  const tunnel = await connectHbone({
    proxy: { host: '127.0.0.1', port: server.port, identities: [spiffe('other'), spiffe('server')] },
    target: 'service.demo:80',
    tls,
    headers: { baggage: 'service.name=client', 'X-Forwarded-Network': 'n1' },
  })
  const got: Buffer[] = []
  tunnel.on('data', (chunk: Buffer) => got.push(chunk))
  tunnel.end(Buffer.alloc(1_000_000, 1))
  await once(tunnel, 'end')
  t.equal(Buffer.concat(got).length, 1_000_000)
  t.equal(server.seen[0].authority, 'service.demo:80')
  t.match(server.seen[0].headers, { baggage: 'service.name=client', 'x-forwarded-network': 'n1' })
  const [socket] = server.sockets
  const closed = once(socket, 'close')
  tunnel.destroy()
  await closed
  t.equal(server.sockets.size, 1)
})

t.test('a tunnel that is destroyed calls back every write, and tells no error of its own', async (t) => {
  const mesh = await Mesh.create()
  const server = await HboneServer.start(t, mesh, await mesh.workload('server'))
  server.serve = () => {}
  const tls = material(mesh, await mesh.workload('client'))
  const proxy = { host: '127.0.0.1', port: server.port }
  const tunnel = await connectHbone({ proxy, target: 'a:1', tls })
  const told: string[] = []
  const tell = (error?: Error | null): void => void told.push(error == null ? 'written' : 'not written')
  for (let i = 0; i < 3; i++) tunnel.write(Buffer.alloc(8 * 1024 * 1024), tell)
  tunnel.on('error', () => told.push('error'))
  await settle(20)
  t.same(told, [])
  t.ok(tunnel.writableNeedDrain)
  tunnel.destroy()
  await once(tunnel, 'close')
  await settle()
  t.same(told, ['not written', 'not written', 'not written'])
})

t.test('through the gateway of another network', async (t) => {
  const mesh = await Mesh.create()
  const server = await HboneServer.start(t, mesh, await mesh.workload('server'))
  const gateway = await HboneServer.start(t, mesh, await mesh.workload('gateway'))
  gateway.serve = joinTo(server.port)
  const tunnel = await connectHbone({
    proxy: { host: '192.0.2.1', identities: [spiffe('server')] },
    gateway: { host: '127.0.0.1', port: gateway.port, identities: [spiffe('gateway')] },
    target: 'service.demo:80',
    tls: material(mesh, await mesh.workload('client')),
  })
  tunnel.write('hello')
  t.equal(String((await once(tunnel, 'data'))[0]), 'hello')
  t.equal(gateway.seen[0].authority, 'service.demo:80')
  tunnel.destroy()
})

t.test('what is refused, and why', async (t) => {
  const mesh = await Mesh.create()
  const server = await HboneServer.start(t, mesh, await mesh.workload('server'))
  const client = await mesh.workload('client')
  const tls = material(mesh, client)
  const proxy = { host: '127.0.0.1', port: server.port }
  server.answer = () => 403
  await t.rejects(connectHbone({ proxy, target: '10.0.0.1:80', tls }), {
    message: 'HBONE CONNECT to 10.0.0.1:80: status 403',
  })
  await t.rejects(
    connectHbone({ proxy: { ...proxy, identities: [spiffe('client')] }, target: '10.0.0.1:80', tls }),
    /TLS_error/,
  )
  await t.rejects(connectHbone({ proxy, target: 'no port', tls }), ConfigRefused)
  await t.rejects(connectHbone({ proxy, target: 'a:0', tls }), /target: must be host:port, is "a:0"/)
  await t.rejects(
    connectHbone({ proxy, target: 'a:1', tls: { ...tls, privateKey: 'none' } }),
    ConfigRefused,
    'without a certificate there is no tunnel',
  )
  for (const target of ['user@a:1', 'a b:1', '[a]:1', '[::1:1', 'a:1\r\n', 'a/:1', '']) {
    await t.rejects(connectHbone({ proxy, target, tls }), ConfigRefused, JSON.stringify(target))
  }
  for (const [name, value] of [
    ['x-a', 'b\r\nc: d'],
    [':authority', 'b:1'],
  ]) {
    await t.rejects(connectHbone({ proxy, target: 'a:1', tls, headers: { [name]: value } }), ConfigRefused)
  }
  await t.rejects(connectHbone({ proxy: { ...proxy, port: 0 }, target: 'a:1', tls }), ConfigRefused)
  await t.rejects(connectHbone({ proxy: { ...proxy, identities: ['a'] }, target: 'a:1', tls }), ConfigRefused)
  await t.rejects(connectHbone({ proxy, target: 'a:1', tls: { ...tls, trustedCa: '' } }), ConfigRefused)
  t.equal(server.seen.length, 1)
})
