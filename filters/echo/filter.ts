import type { NetworkFilter } from '../../lib/chain/network.ts'

export const echoFilter: NetworkFilter = Object.freeze({
  onRead(connection, chunk, end) {
    if (chunk.length > 0 && !connection.write(chunk)) connection.pause()
    if (end) connection.end()
  },
  onDrain: (connection) => connection.resume(),
} satisfies NetworkFilter)
