import { spawnSync } from 'node:child_process'
import { existsSync, mkdtempSync, rmSync, statSync, writeFileSync } from 'node:fs'
import type { AddressInfo } from 'node:net'
import net from 'node:net'
import { tmpdir } from 'node:os'
import type { Test } from 'tap'
import t from 'tap'
import type { Address } from '../../lib/core/address.ts'
import { bindRefusal } from '../../lib/runtime/bind-refusal.ts'
import { localBinder } from '../../lib/runtime/local-binder.ts'
import { RemoteBinder } from '../../lib/runtime/remote-binder.ts'
import type { SocketHandle } from '../../lib/runtime/socket-handle.ts'
import { BindError, bindHandle, canBindHandles } from '../../lib/runtime/socket-handle.ts'
import { SocketTable } from '../../lib/runtime/socket-table.ts'
import { loopback } from './fixtures/configuration.ts'

function listening(target: unknown): Promise<net.Server> {
  const server = net.createServer((socket) => socket.on('error', () => {}).end('hello'))
  return new Promise((resolve, reject) => {
    server.once('error', reject)
    server.listen(target as net.ListenOptions, () => resolve(server))
  })
}

function read(options: net.NetConnectOpts): Promise<string> {
  return new Promise((resolve, reject) => {
    let text = ''
    net
      .connect(options)
      .on('data', (chunk) => (text += chunk))
      .on('error', reject)
      .on('close', () => resolve(text))
  })
}

function nameOf(handle: SocketHandle): { address: string; port: number } {
  const out = { address: '', port: 0 }
  t.equal(handle.getsockname(out), 0)
  return out
}

/** A socket's path has 107 bytes at most, which the runner's own test directories exceed. */
function shortDirectory(t: Test): string {
  const dir = mkdtempSync(`${tmpdir()}/hg-`)
  t.teardown(() => rmSync(dir, { recursive: true, force: true }))
  return dir
}

async function refused(address: Address): Promise<BindError> {
  try {
    const handle = await bindHandle(address)
    handle.close()
  } catch (error) {
    if (error instanceof BindError) return error
  }
  throw new Error('was not refused')
}

t.test('THIS NODE MUST STILL BE ABLE TO BIND WITHOUT LISTENING: net._createServerHandle', async (t) => {
  t.ok(canBindHandles(), 'net._createServerHandle is gone: see lib/runtime/socket-handle.ts for the fall-back')
  const handle = await bindHandle(loopback())
  const { port } = nameOf(handle)
  t.ok(port > 0, 'it has a port already')
  await t.rejects(read({ port, host: '127.0.0.1' }), { code: 'ECONNREFUSED' }, 'but it does not listen')
  const server = await listening(handle)
  t.equal((server.address() as AddressInfo).port, port)
  t.equal(await read({ port, host: '127.0.0.1' }), 'hello', 'a server takes the handle')
  server.close()
})

t.test('an IPv6 socket takes IPv6 only', async (t) => {
  const handle = await bindHandle({ kind: 'ip', host: '::', port: 0 }).catch((error: BindError) => error)
  if (handle instanceof BindError) {
    t.equal(handle.code, 'EAFNOSUPPORT', 'a machine without IPv6')
    return
  }
  const { port } = nameOf(handle)
  const server = await listening(handle)
  t.equal(await read({ port, host: '::1' }), 'hello')
  await t.rejects(read({ port, host: '127.0.0.1' }), { code: 'ECONNREFUSED' })
  server.close()
})

t.test('a port in use, a foreign address and a long path are refused by name', async (t) => {
  const server = await listening({ port: 0, host: '127.0.0.1' })
  const inUse = loopback((server.address() as AddressInfo).port)
  const error = await refused(inUse)
  t.equal(error.code, 'EADDRINUSE')
  t.equal(
    bindRefusal('ingress', inUse, error).toString(),
    `listener "ingress": cannot listen on 127.0.0.1:${inUse.kind === 'ip' && inUse.port}: the address is already in use (EADDRINUSE)`,
  )
  server.close()
  t.equal((await refused({ kind: 'ip', host: '192.0.2.1', port: 0 })).code, 'EADDRNOTAVAIL')
  t.equal((await refused({ kind: 'pipe', path: `/tmp/${'x'.repeat(200)}` })).code, 'EINVAL')
  t.equal(
    (await refused({ kind: 'pipe', path: '/no/such/directory/s' })).code,
    'EACCES',
    'as libuv calls a missing folder',
  )
  const privileged = bindRefusal('web', { kind: 'ip', host: '0.0.0.0', port: 80 }, new BindError('EACCES', ''))
  t.match(privileged.message, /0\.0\.0\.0:80: no permission to bind port 80, which is privileged \(EACCES\)/)
  t.match(bindRefusal('web', loopback(1), new Error('boom')).message, /cannot listen on 127\.0\.0\.1:1: boom/)
})

t.test('Unix sockets: a stale file is replaced, a living one and other files are left alone', async (t) => {
  const dir = shortDirectory(t)
  const path = `${dir}/s`
  const address: Address = { kind: 'pipe', path, mode: 0o600 }
  // A process that dies without closing leaves its socket file behind.
  const died = spawnSync(process.execPath, [
    '-e',
    `net.createServer().listen(${JSON.stringify(path)}, () => process.kill(process.pid, 'SIGKILL'))`,
  ])
  t.equal(died.signal, 'SIGKILL')
  t.ok(existsSync(path), 'stale')
  const handle = await bindHandle(address)
  t.equal(statSync(path).mode & 0o777, 0o600)
  const server = await listening(handle)
  t.equal(await read({ path }), 'hello')
  t.equal((await refused(address)).code, 'EADDRINUSE', 'somebody listens')
  t.ok(existsSync(path))
  server.close()
  const unheard = await bindHandle(address)
  unheard.close()
  t.notOk(existsSync(path), 'the owner removes its file')
  writeFileSync(path, 'precious')
  t.equal((await refused(address)).code, 'EADDRINUSE', 'not a socket')
  t.ok(existsSync(path))
})

t.test('Unix sockets: abstract names begin with @ and leave no file', async (t) => {
  const name = `headgate-test-${process.pid}`
  const server = await listening(await bindHandle({ kind: 'pipe', path: `@${name}` }))
  t.equal(await read({ path: `\0${name}` }), 'hello')
  server.close()
})

t.test('an embedded gateway binds for itself, stale files out of the way', async (t) => {
  const dir = shortDirectory(t)
  const server = await listening(await localBinder.bind({ kind: 'pipe', path: `${dir}/e` }, 16))
  t.equal(await read({ path: `${dir}/e` }), 'hello')
  server.close()
  t.strictSame(await localBinder.bind(loopback(80), 16), { host: '127.0.0.1', port: 80, ipv6Only: false, backlog: 16 })
  t.strictSame(await localBinder.bind({ kind: 'ip', host: '::1', port: 80 }, 1), {
    host: '::1',
    port: 80,
    ipv6Only: true,
    backlog: 1,
  })
})

function fakeSockets(): { table: SocketTable; bound: string[]; closed: string[] } {
  const bound: string[] = []
  const closed: string[] = []
  const table = new SocketTable(async (address) => {
    const name = `${address.kind === 'ip' ? address.port : address.path}/${bound.length}`
    if (name.startsWith('13/')) throw new BindError('EACCES', 'unlucky')
    bound.push(name)
    return { getsockname: () => 0, close: () => void closed.push(name) }
  })
  return { table, bound, closed }
}

const settled = (): Promise<void> => new Promise((resolve) => setImmediate(resolve))

t.test('workers share one socket per address, which closes with its last holder', async (t) => {
  const { table, bound, closed } = fakeSockets()
  table.started(0)
  table.started(1)
  const first = await table.acquire(0, loopback(80))
  t.equal(await table.acquire(1, loopback(80)), first)
  t.equal(await table.acquire(1, loopback(80)), first, 'a listener that replaces another on the same address')
  t.strictSame(bound, ['80/0'])
  table.release(0, loopback(80))
  table.release(1, loopback(80))
  await settled()
  t.strictSame(closed, [])
  table.release(1, loopback(80))
  await settled()
  t.strictSame(closed, ['80/0'])
  t.equal(table.size, 0)
  table.release(1, loopback(80))
})

t.test('listeners on port 0 each have their own port, the same in every worker', async (t) => {
  const { table, bound } = fakeSockets()
  table.started(0)
  table.started(1)
  const [a, b] = await Promise.all([table.acquire(0, loopback()), table.acquire(0, loopback())])
  t.not(a, b)
  t.equal(await table.acquire(1, loopback()), a)
  t.equal(await table.acquire(1, loopback()), b)
  t.equal(bound.length, 2)
})

t.test('sockets of a dead worker stay until its successor settles without them', async (t) => {
  const { table, closed } = fakeSockets()
  table.started(0)
  const kept = await table.acquire(0, loopback(80))
  await table.acquire(0, loopback(81))
  table.settle(0)
  table.started(0)
  t.equal(table.size, 2)
  t.equal(await table.acquire(0, loopback(80)), kept)
  t.equal(table.size, 2)
  table.settle(0)
  await settled()
  t.strictSame(closed, ['81/1'])
  table.releaseAll(0)
  await settled()
  t.strictSame(closed, ['81/1', '80/0'])
})

t.test('a socket that cannot be bound is not kept, and a closed table binds no more', async (t) => {
  const { table, closed } = fakeSockets()
  table.started(0)
  await t.rejects(table.acquire(0, loopback(13)), { code: 'EACCES' })
  t.equal(table.size, 0)
  const pending = table.acquire(0, loopback(80))
  table.close()
  await t.rejects(pending, /closed/)
  await settled()
  t.strictSame(closed, ['80/0'], 'also one that was just being bound')
  await t.rejects(table.acquire(0, loopback(81)), /closed/)
})

t.test('a worker whose supervisor is gone waits for no socket', async (t) => {
  const binder = new RemoteBinder({ send: async () => {} })
  const waiting = binder.bind(loopback(80), 1)
  binder.close()
  await t.rejects(waiting, { code: 'EPIPE' })
  await t.rejects(binder.bind(loopback(80), 1), { code: 'EPIPE' })
})
