import type { Runtime } from '../core/metrics.ts'
import { compileAccessLogFilter } from './access-log-filter.ts'
import type { AccessLogConfig, FormatConfig } from './config.ts'
import { type FormatEnvironment, type LogStream, processEnvironment } from './format/operator.ts'
import { compileFormat, compileJsonFormat, type Format } from './format.ts'
import type { AccessLogSinks } from './sinks/registry.ts'

/** Envoy's format for access logs that name none. */
export const DEFAULT_ACCESS_LOG_FORMAT =
  '[%START_TIME%] "%REQ(:METHOD)% %REQ(X-ENVOY-ORIGINAL-PATH?:PATH)% %PROTOCOL%" %RESPONSE_CODE% %RESPONSE_FLAGS% ' +
  '%BYTES_RECEIVED% %BYTES_SENT% %DURATION% %RESP(X-ENVOY-UPSTREAM-SERVICE-TIME)% "%REQ(X-FORWARDED-FOR)%" ' +
  '"%REQ(USER-AGENT)%" "%REQ(X-REQUEST-ID)%" "%REQ(:AUTHORITY)%" "%UPSTREAM_HOST%"\n'

/** When lines of exchanges are written: when they have ended. */
const EXCHANGE_END = 'DownstreamEnd'

/** Writes a line per exchange. Disposing it gives its sink back; the last one to do so closes the file. */
export interface AccessLogger extends Disposable {
  /** Never throws and never waits; lines beyond what the sink may hold are dropped and counted. */
  log(stream: LogStream): void
}

export interface AccessLogDeps {
  readonly sinks: AccessLogSinks
  readonly runtime: Runtime
  /** Default: read from the process now. */
  readonly environment?: FormatEnvironment
  /** Envoy's AccessLogType of the lines; default: `DownstreamEnd`. */
  readonly logType?: string
}

/**
 * Compiles one access log and opens its sink.
 *
 * @throws FormatError for a bad format, the system's error where a file cannot be opened.
 */
export function compileAccessLog(config: AccessLogConfig, deps: AccessLogDeps): AccessLogger {
  const environment = deps.environment ?? processEnvironment()
  const { runtime, logType = EXCHANGE_END } = deps
  const taken =
    config.filter === undefined
      ? undefined
      : compileAccessLogFilter(config.filter, { runtime, clock: environment.clock, logType })
  const format = compileLine(config.format, environment, logType)
  const lease = deps.sinks.open(config.sink)
  return {
    log(stream) {
      if (taken === undefined || taken(stream)) lease.write(format(stream))
    },
    [Symbol.dispose]: () => lease[Symbol.dispose](),
  }
}

/** JSON lines end with a newline; a text format brings its own, as in Envoy. */
function compileLine(format: FormatConfig | undefined, environment: FormatEnvironment, logType: string): Format {
  if (format === undefined) {
    return compileFormat(DEFAULT_ACCESS_LOG_FORMAT, { missing: '-', output: 'log', environment, logType })
  }
  const { omitEmpty = false } = format
  if (format.kind === 'json') {
    const json = compileJsonFormat(format.json, { omitEmpty, environment, logType })
    return (stream) => `${json(stream)}\n`
  }
  return compileFormat(format.text, { missing: omitEmpty ? '' : '-', output: 'log', environment, logType })
}
