import { randomBytes } from 'node:crypto'
import { once } from 'node:events'
import { type ClientHttp2Stream, connect } from 'node:http2'

const gateway = process.argv[2] ?? '127.0.0.1:10000'

/** Over HTTP/1: what every WebSocket client does. */
async function overHttp1(text: string): Promise<string> {
  const socket = new WebSocket(`ws://${gateway}/chat`)
  const heard = once(socket, 'message') as Promise<[MessageEvent]>
  await once(socket, 'open')
  socket.send(text)
  const [message] = await heard
  socket.close()
  return String(message.data)
}

/** Over HTTP/2: a stream of a connection that carries others too (RFC 8441). Browsers do this by themselves. */
async function overHttp2(text: string): Promise<string> {
  const session = connect(`http://${gateway}`)
  await once(session, 'remoteSettings')
  const stream = session.request({
    ':method': 'CONNECT',
    ':protocol': 'websocket',
    ':path': '/chat',
    'sec-websocket-version': '13',
  })
  const [headers] = await once(stream, 'response')
  if (headers[':status'] !== 200) throw new Error(`refused with ${headers[':status']}`)
  stream.write(textFrame(text))
  const heard = await readText(stream)
  stream.end()
  session.close()
  return heard
}

/** A short text message, masked as clients must (RFC 6455 §5.2). */
function textFrame(text: string): Buffer {
  const payload = Buffer.from(text)
  const mask = randomBytes(4)
  for (let i = 0; i < payload.length; i++) payload[i] ^= mask[i % 4]
  return Buffer.concat([Buffer.of(0x81, 0x80 | payload.length), mask, payload])
}

async function readText(stream: ClientHttp2Stream): Promise<string> {
  let bytes = Buffer.alloc(0)
  for await (const chunk of stream) {
    bytes = Buffer.concat([bytes, chunk as Buffer])
    if (bytes.length >= 2 && bytes.length >= 2 + bytes[1]) break
  }
  return bytes.subarray(2, 2 + bytes[1]).toString()
}

console.log(`HTTP/1: ${await overHttp1('hello')}`)
console.log(`HTTP/2: ${await overHttp2('hello again')}`)
