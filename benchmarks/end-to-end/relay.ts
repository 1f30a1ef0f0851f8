/**
 * The floor: passes bytes between a client and an origin connection of its own and parses nothing, so it shows what the
 * four system calls of a proxied exchange cost in Node before any proxying is done. Not a proxy: no headers are added.
 */
import { connect, createServer, type Socket } from 'node:net'
import { peerSettings } from './peers/settings.ts'

const settings = peerSettings()

function pass(from: Socket, to: Socket): void {
  from.on('data', (chunk: Buffer) => {
    if (!to.write(chunk)) from.pause()
  })
  to.on('drain', () => from.resume())
  from.on('end', () => to.end())
  from.on('error', () => to.destroy())
  from.on('close', () => to.destroy())
}

const options = { noDelay: true, allowHalfOpen: true }
createServer(options, (client) => {
  const origin = connect({ ...options, port: settings.originPort, host: '127.0.0.1' })
  pass(client, origin)
  pass(origin, client)
}).listen(settings.listenPort, '127.0.0.1', 4096)
