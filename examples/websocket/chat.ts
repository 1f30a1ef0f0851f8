import type { AddressInfo } from 'node:net'
import { WebSocket, WebSocketServer } from 'ws'

// A WebSocket service that speaks HTTP/1, as most do: what one client says, all hear.
const server = new WebSocketServer({ host: '127.0.0.1', port: Number(process.env.PORT ?? 8081) })
server.on('connection', (client) => {
  client.on('message', (message, binary) => {
    for (const other of server.clients) if (other.readyState === WebSocket.OPEN) other.send(message, { binary })
  })
})
server.on('listening', () => console.log(`chat on ${(server.address() as AddressInfo).port}`))
process.once('SIGTERM', () => {
  for (const client of server.clients) client.terminate()
  server.close()
})
