import { once } from 'node:events'
import http2 from 'node:http2'
import net from 'node:net'
import t, { type Test } from 'tap'
import { DECODED, HpackDecoder } from '../../lib/http2/hpack/decoder.ts'
import { HpackEncoder, MAX_BEGIN_BYTES, maxEncodedBytes } from '../../lib/http2/hpack/encoder.ts'

/* node:http2 as the other end of a connection on which we only know frames and HPACK. */

const PREFACE = 'PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n'
const HEADERS = 1
const SETTINGS = 4
const ACK = 1
const END_STREAM = 1
const END_HEADERS = 4
const HEADER_TABLE_SIZE = 1
const LIMITS = { maxListBytes: 65_536, maxFields: 200 }

function frame(type: number, flags: number, stream: number, payload: Buffer): Buffer {
  const head = Buffer.alloc(9)
  head.writeUIntBE(payload.length, 0, 3)
  head[3] = type
  head[4] = flags
  head.writeUInt32BE(stream, 5)
  return Buffer.concat([head, payload])
}

function tableSize(bytes: number): Buffer {
  const payload = Buffer.alloc(6)
  payload.writeUInt16BE(HEADER_TABLE_SIZE, 0)
  payload.writeUInt32BE(bytes, 2)
  return payload
}

/** Our end: answers SETTINGS, decodes every header block, and hands out what it decoded. */
class RawPeer {
  readonly encoder = new HpackEncoder({ maxTableBytes: 65_536 })
  readonly decoder: HpackDecoder
  readonly #socket: net.Socket
  readonly #announced: number[] = []
  #pending: Buffer = Buffer.alloc(0)
  #heads: string[][] = []
  #waiting: ((head: string[]) => void)[] = []
  #stream = 1
  settings = 0
  failure = ''

  constructor(socket: net.Socket, options: { client: boolean; tableBytes: number }) {
    this.#socket = socket
    this.decoder = new HpackDecoder({ maxTableBytes: options.tableBytes })
    if (options.client) socket.write(PREFACE)
    let skip = options.client ? 0 : PREFACE.length
    this.announce(options.tableBytes)
    socket.on('error', () => {})
    socket.on('data', (chunk: Buffer) => {
      this.#pending = Buffer.concat([this.#pending, chunk])
      if (this.#pending.length < skip) return
      this.#pending = this.#pending.subarray(skip)
      skip = 0
      this.#frames()
    })
  }

  announce(bytes: number): void {
    this.#announced.push(bytes)
    this.#socket.write(frame(SETTINGS, 0, 0, tableSize(bytes)))
  }

  send(raw: readonly string[], answered?: { stream: number }): void {
    const out = Buffer.alloc(raw.reduce((sum, text) => sum + maxEncodedBytes(text, ''), MAX_BEGIN_BYTES))
    let at = this.encoder.begin(out, 0)
    for (let i = 0; i < raw.length; i += 2) at = this.encoder.field(out, at, raw[i], raw[i + 1])
    const stream = answered?.stream ?? this.#stream
    this.#stream = stream + 2
    this.#socket.write(frame(HEADERS, END_STREAM | END_HEADERS, stream, out.subarray(0, at)))
  }

  /** The next header list that the other end sends. */
  head(): Promise<string[]> {
    const head = this.#heads.shift()
    return head === undefined ? new Promise((resolve) => this.#waiting.push(resolve)) : Promise.resolve(head)
  }

  #frames(): void {
    while (this.#pending.length >= 9) {
      const length = this.#pending.readUIntBE(0, 3)
      if (this.#pending.length < 9 + length) return
      const [type, flags] = [this.#pending[3], this.#pending[4]]
      const payload = this.#pending.subarray(9, 9 + length)
      this.#pending = this.#pending.subarray(9 + length)
      if (type === SETTINGS) this.#onSettings(flags, payload)
      // Only whole blocks: node:http2 pads nothing, and without PRIORITY there is nothing else in the payload.
      if (type === HEADERS) this.#onHeaders(flags, payload)
    }
  }

  #onSettings(flags: number, payload: Buffer): void {
    if ((flags & ACK) !== 0) {
      this.decoder.setMaxTableBytes(this.#announced.shift() ?? 0)
      return
    }
    this.settings++
    for (let at = 0; at < payload.length; at += 6) {
      if (payload.readUInt16BE(at) === HEADER_TABLE_SIZE) this.encoder.setMaxTableBytes(payload.readUInt32BE(at + 2))
    }
    this.#socket.write(frame(SETTINGS, ACK, 0, Buffer.alloc(0)))
  }

  #onHeaders(flags: number, payload: Buffer): void {
    const from = (flags & 0x20) !== 0 ? 5 : 0
    const sink = { raw: [] as string[] }
    const code = this.decoder.decode(payload, from, payload.length, sink, LIMITS)
    if (code !== DECODED || (flags & END_HEADERS) === 0) this.failure = `code ${code} for ${payload.toString('hex')}`
    const waiting = this.#waiting.shift()
    if (waiting === undefined) this.#heads.push(sink.raw)
    else waiting(sink.raw)
  }
}

function requestOf(n: number): string[] {
  const raw = [':method', n % 3 === 0 ? 'POST' : 'GET', ':scheme', 'http', ':authority', 'example.com']
  raw.push(':path', n % 2 === 0 ? '/fixed' : `/items/${n}?q=${n * 31}`)
  raw.push('user-agent', 'hpack', 'x-request-id', `id-${n}-\u00e9~`, 'authorization', 'Bearer abcdef', 'x-empty', '')
  for (let i = 0; i < n % 7; i++) raw.push(`x-list-${i}`, `${'value '.repeat(n % 40)}${n}.`)
  return raw
}

async function rawClient(t: Test, server: http2.Http2Server, tableBytes = 4096): Promise<RawPeer> {
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  const socket = net.connect((server.address() as net.AddressInfo).port, '127.0.0.1')
  await once(socket, 'connect')
  t.teardown(() => {
    socket.destroy()
    server.close()
  })
  return new RawPeer(socket, { client: true, tableBytes })
}

t.test('a node:http2 server reads what we encode and we read what it answers', async (t) => {
  for (const headerTableSize of [4096, 0, 128, 65_536]) {
    const server = http2.createServer({ settings: { headerTableSize } })
    const seen: string[][] = []
    server.on('stream', (stream: http2.ServerHttp2Stream, _headers, _flags, raw: string[]) => {
      seen.push(raw)
      stream.respond(
        { ':status': 203, 'x-request-id': String(seen.length), 'x-fixed': 'text, always' },
        { endStream: true },
      )
    })
    const peer = await rawClient(t, server, headerTableSize)
    for (let n = 0; n < 60; n++) {
      const request = requestOf(n)
      peer.send(request)
      const head = await peer.head()
      t.equal(peer.failure, '')
      t.same(head.slice(0, 2), [':status', '203'])
      t.equal(head[head.indexOf('x-request-id') + 1], String(n + 1))
      t.same(Buffer.from(seen[n].join('\n'), 'latin1'), Buffer.from(request.join('\n'), 'latin1'))
    }
    t.equal(peer.encoder.tableLimitBytes, headerTableSize)
    t.ok(headerTableSize === 0 || peer.encoder.tableFields > 0)
  }
})

t.test('a node:http2 server that changes its table size meanwhile is followed', async (t) => {
  const server = http2.createServer()
  const sizes = [0, 200, 10_000, 64, 4096]
  const seen: string[][] = []
  server.on('stream', (stream: http2.ServerHttp2Stream, _headers, _flags, raw: string[]) => {
    seen.push(raw)
    const size = sizes[seen.length % sizes.length]
    if (seen.length % 4 === 0) stream.session?.settings({ headerTableSize: size })
    stream.respond({ ':status': 200, 'x-fixed': 'text, always' }, { endStream: true })
  })
  const peer = await rawClient(t, server)
  for (let n = 0; n < 80; n++) {
    peer.send(requestOf(n))
    t.same((await peer.head()).slice(0, 2), [':status', '200'])
    t.same(seen[n], requestOf(n))
  }
  t.ok(peer.settings > 20, 'there were changes')
  t.equal(peer.failure, '')
})

t.test('we read what a node:http2 client sends, whatever table we announce meanwhile', async (t) => {
  let peer: RawPeer | undefined
  const server = net.createServer((socket) => {
    peer = new RawPeer(socket, { client: false, tableBytes: 4096 })
  })
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  const session = http2.connect(`http://127.0.0.1:${(server.address() as net.AddressInfo).port}`)
  t.teardown(() => {
    session.destroy()
    server.close()
  })
  await once(session, 'remoteSettings')
  const sizes = [0, 100, 4096, 50, 20_000]
  let indexed = 0
  for (let n = 0; n < 60; n++) {
    const raw = requestOf(n)
    const stream = session.request(raw, { endStream: true })
    const answer = once(stream, 'response')
    t.same(await peer?.head(), raw)
    t.equal(peer?.failure, '')
    if ((peer?.decoder.tableBytes ?? 0) > 0) indexed++
    peer?.send([':status', '200', 'x-n', String(n)], { stream: stream.id ?? 0 })
    const [headers] = await answer
    t.equal(headers['x-n'], String(n))
    stream.resume()
    if (n % 5 === 4) {
      const settings = once(session, 'remoteSettings')
      peer?.announce(sizes[((n + 1) / 5) % sizes.length])
      await settings
    }
  }
  t.ok(indexed > 10, `${indexed} blocks with a table`)
})
