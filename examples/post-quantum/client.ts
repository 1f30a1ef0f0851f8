import { once } from 'node:events'
import { text } from 'node:stream/consumers'
import { connect } from 'node:tls'

/** `node client.ts PORT [GROUPS]`: asks for the page, offering these groups (`X25519MLKEM768:X25519`), and says what came. */
const [, , port = '10443', ecdhCurve = 'X25519MLKEM768:X25519'] = process.argv
const host = '127.0.0.1'
const socket = connect({ host, port: Number(port), servername: 'localhost', rejectUnauthorized: false, ecdhCurve })
try {
  await once(socket, 'secureConnect')
  socket.write('GET / HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n')
  const answer = await text(socket)
  console.log(`${answer.slice(9, 12)} ${/^x-group: (.*)\r$/m.exec(answer)?.[1]}`)
} catch (error) {
  console.log(`refused: ${(error as { code?: string }).code ?? String(error)}`)
}
socket.destroy()
