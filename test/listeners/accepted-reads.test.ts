import { once } from 'node:events'
import { createServer as createHttpServer } from 'node:http'
import { type AddressInfo, connect, createServer, type Socket } from 'node:net'
import { connect as secure } from 'node:tls'
import t, { type Test } from 'tap'
import type { HttpFilter } from '../../lib/chain/filter.ts'
import { ReadBuffer } from '../../lib/upstream/socket-reader.ts'
import { AcceptedReads } from '../../listeners/detect/accepted-reads.ts'
import { bootstrap, cluster, type Fields } from '../end-to-end/bootstrap.ts'
import { withFilters } from '../end-to-end/filter-instances.ts'
import { Authority } from '../support/certificates.ts'
import { settle } from '../support/clock.ts'
import { TestGateway } from '../support/gateway.ts'
import { type Random, seeded } from '../support/random.ts'

/**
 * Plaintext HTTP/1 clients are read into memory that they share. Every chunk of a request body is kept to the end and
 * compared then: whatever was read over meanwhile shows.
 */

const SIZES = [1, 100, 4096, 16_383, 16_384, 16_385, 65_535, 65_536, 65_537, 300_000]

function bodyOf(seed: number, size: number): Buffer {
  const bytes = Buffer.alloc(size)
  for (let i = 0; i < size; i++) bytes[i] = (Math.imul(i + 1, 0x9e3779b1) ^ Math.imul(seed, 0x85ebca6b)) >>> 13
  return bytes
}

t.test('this runtime lets accepted sockets read into memory of ours', async (t) => {
  const reads = new AcceptedReads(new ReadBuffer())
  const got: string[] = []
  const server = createServer((socket) => {
    const borrower = { lent: true, expectsBody: false, receive: (chunk: Buffer) => void got.push(chunk.latin1Slice()) }
    t.not(reads.adopt(socket, borrower, 65_536), undefined)
    t.equal(reads.adopt(socket, borrower, 65_536), undefined, 'once')
    socket.on('data', () => t.fail('the bytes came by another way as well'))
    socket.on('end', () => socket.end())
  }).listen(0, '127.0.0.1')
  await once(server, 'listening')
  const client = connect((server.address() as AddressInfo).port, '127.0.0.1')
  client.end('hello')
  client.resume()
  await once(client, 'end')
  t.same(got, ['hello'])
  server.close()
})

/** Sends bytes in pieces of any size, some after the loop has turned. */
async function dribble(socket: Socket, bytes: Buffer, random: Random): Promise<void> {
  for (let at = 0; at < bytes.length; ) {
    const size = Math.max(1, random.pick([1, 50, 5_000, 16_384, 65_536, 200_000]) + random.below(9) - 4)
    const more = socket.write(bytes.subarray(at, at + size))
    at += size
    if (!more) await once(socket, 'drain')
    else if (random.below(3) === 0) await settle(random.below(3))
  }
}

/** `POST /seed-size` in either framing. */
function request(seed: number, size: number, random: Random): Buffer {
  const body = bodyOf(seed, size)
  const head = `POST /${seed}-${size} HTTP/1.1\r\nhost: a\r\n`
  if (random.below(2) === 0) return Buffer.concat([Buffer.from(`${head}content-length: ${size}\r\n\r\n`), body])
  const parts: Buffer[] = [Buffer.from(`${head}transfer-encoding: chunked\r\n\r\n`)]
  for (let at = 0; at < body.length; ) {
    const piece = body.subarray(at, at + 1 + random.below(random.pick([10, 20_000, 70_000])))
    parts.push(Buffer.from(`${piece.length.toString(16)}\r\n`), piece, Buffer.from('\r\n'))
    at += piece.length
  }
  parts.push(Buffer.from('0\r\n\r\n'))
  return Buffer.concat(parts)
}

/** Keeps every chunk of every body by path. */
function keeper(kept: Map<string, Buffer[]>): HttpFilter<unknown> {
  return {
    onRequestData: (stream, chunk) => {
      const { path } = stream.head
      const chunks = kept.get(path) ?? []
      kept.set(path, chunks)
      chunks.push(chunk)
    },
  }
}

/** A chain that ends TLS. */
async function secured(): Promise<Fields> {
  const { chain, key } = await (await Authority.create()).issue({ dns: ['a'] })
  const certificate = { certificate_chain: { inline_string: chain }, private_key: { inline_string: key } }
  const context = 'type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext'
  const config = { '@type': context, common_tls_context: { tls_certificates: [certificate] } }
  return { transport_socket: { name: 'tls', typed_config: config } }
}

for (const transport of ['plaintext', 'TLS']) {
  t.test(`bodies of clients stay what they were, pipelined and side by side, over ${transport}`, async (t) => {
    await bodiesStay(t, transport === 'TLS' ? await secured() : undefined)
  })
}

async function bodiesStay(t: Test, chain: Fields | undefined): Promise<void> {
  const random = seeded(11)
  const kept = new Map<string, Buffer[]>()
  const origin = createHttpServer((request, response) => request.resume().on('end', () => response.end()))
  origin.listen(0, '127.0.0.1')
  await once(origin, 'listening')
  t.teardown(() => origin.close())
  const clusters = [cluster('origin', (origin.address() as AddressInfo).port)]
  const gateway = await TestGateway.start(bootstrap({ clusters, ...(chain && { chain }) }), {
    adjust: withFilters(keeper(kept)),
  })
  t.teardown(() => gateway.close())
  const client = async (number: number): Promise<void> => {
    const port = gateway.port()
    const plain = connect(port, '127.0.0.1')
    const socket = chain === undefined ? plain : secure({ socket: plain, servername: 'a', rejectUnauthorized: false })
    let answers = 0
    socket.on('data', (bytes: Buffer) => {
      answers += bytes.latin1Slice().split('HTTP/1.1 200').length - 1
    })
    const requests = Array.from({ length: 12 }, (_, i) => request(number * 100 + i, random.pick(SIZES), random))
    await dribble(socket, Buffer.concat(requests), random)
    await gateway.until(() => answers === requests.length, `answers of client ${number}, ${answers}`)
    socket.destroy()
  }
  await Promise.all(Array.from({ length: 6 }, (_, i) => client(i + 1)))
  t.equal(kept.size, 72)
  for (const [path, chunks] of kept) {
    const [seed, size] = path.slice(1).split('-').map(Number)
    t.ok(Buffer.concat(chunks).equals(bodyOf(seed, size)), path)
  }
}
