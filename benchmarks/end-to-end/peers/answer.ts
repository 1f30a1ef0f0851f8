/** Not a proxy: Node answering by itself, the base line of start-up time. */
import { createServer } from 'node:http'
import { peerSettings } from './settings.ts'

const settings = peerSettings()
createServer((_req, res) => res.end('Hello, world\n')).listen(settings.listenPort, '127.0.0.1')
