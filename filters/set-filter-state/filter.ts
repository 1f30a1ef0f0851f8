import type { NetworkConnection, NetworkFilter, NetworkScope } from '../../lib/chain/network.ts'
import { ConnectionLogStream } from '../../lib/telemetry/connection-stream.ts'
import { compileBodyFormat } from '../../lib/telemetry/format.ts'
import type { FilterStateValueConfig, SetFilterStateConfig } from './config.ts'

type Apply = (connection: NetworkConnection) => void

export function compileSetFilterState(config: SetFilterStateConfig, scope: NetworkScope): NetworkFilter<unknown> {
  const atConnect = compileValues(config.onConnect, scope)
  if (config.onData.length === 0) return Object.freeze({ onConnect: atConnect })
  const atData = compileValues(config.onData, scope)
  const filter: NetworkFilter<{ done: boolean }> = {
    createState: () => ({ done: false }),
    onConnect: atConnect,
    onRead(connection, _chunk, _end, state) {
      if (state.done) return
      state.done = true
      atData(connection)
    },
  }
  return Object.freeze(filter) as NetworkFilter<unknown>
}

/** In order: a later value may read what an earlier one has set. */
function compileValues(values: readonly FilterStateValueConfig[], scope: NetworkScope): Apply {
  const steps = values.map(({ key, format, shared, skipIfEmpty }): Apply => {
    const render = compileBodyFormat(format)
    return (connection) => {
      const text = render(new ConnectionLogStream(connection, scope.random()))
      if (text !== '' || !skipIfEmpty) connection.facts.state.setObject(key, text, shared)
    }
  })
  return (connection) => {
    for (const step of steps) step(connection)
  }
}
