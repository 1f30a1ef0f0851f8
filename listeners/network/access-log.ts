import type { ConnectionLogger, ConnectionLogType, LoggedConnection } from '../../lib/chain/network.ts'
import { type AccessLogDeps, type AccessLogger, compileAccessLog } from '../../lib/telemetry/access-log.ts'
import type { AccessLogConfig } from '../../lib/telemetry/config.ts'
import { ConnectionLogStream } from '../../lib/telemetry/connection-stream.ts'

/** What connection logs are made with; whatever has a lifetime goes through `own`. */
export interface ConnectionLogDeps extends Pick<AccessLogDeps, 'sinks' | 'runtime'> {
  readonly own: <T extends Disposable>(resource: T) => T
  readonly random: () => number
}

/**
 * Access logs of connections. Each log is compiled once for each type of line that is ever written, since types are
 * known when formats are compiled: `usual` now, which finds the mistakes, the others when first needed.
 *
 * @throws as `compileAccessLog`
 */
export function compileConnectionLogs(
  configs: readonly AccessLogConfig[],
  usual: ConnectionLogType,
  deps: ConnectionLogDeps,
): ConnectionLogger {
  if (configs.length === 0) return SILENT
  return deps.own(new ConnectionLogs(configs, usual, deps))
}

const SILENT: ConnectionLogger = Object.freeze({ log: () => {} })

class ConnectionLogs implements ConnectionLogger, Disposable {
  readonly #configs: readonly AccessLogConfig[]
  readonly #deps: ConnectionLogDeps
  readonly #loggers = new Map<ConnectionLogType, readonly AccessLogger[]>()
  #over = false

  constructor(configs: readonly AccessLogConfig[], usual: ConnectionLogType, deps: ConnectionLogDeps) {
    this.#configs = configs
    this.#deps = deps
    this.#of(usual)
  }

  log(connection: LoggedConnection, type: ConnectionLogType): void {
    if (this.#over) return
    const stream = new ConnectionLogStream(connection, this.#deps.random())
    for (const logger of this.#of(type)) logger.log(stream)
  }

  #of(type: ConnectionLogType): readonly AccessLogger[] {
    let loggers = this.#loggers.get(type)
    if (loggers === undefined) {
      loggers = this.#configs.map((config) => compileAccessLog(config, { ...this.#deps, logType: type }))
      this.#loggers.set(type, loggers)
    }
    return loggers
  }

  [Symbol.dispose](): void {
    this.#over = true
    for (const loggers of this.#loggers.values()) for (const logger of loggers) logger[Symbol.dispose]()
  }
}
