import { pino } from 'pino'
import sonicBoom, { type SonicBoom } from 'sonic-boom'
import type { Log } from '../core/metrics.ts'

export interface LogOptions {
  /** trace, debug, info, warn, error, fatal or silent. */
  readonly level: string
  /** Takes whole lines; default: standard error. */
  readonly destination?: { write(line: string): void }
}

/** A log whose level can change while it runs. */
export interface LevelLog extends Log {
  readonly level: string
  /** @throws RangeError for a level that does not exist. */
  setLevel(level: string): void
  /** Writes what is buffered, at once: before the process exits. */
  flush(): void
}

const LEVELS: readonly string[] = Object.freeze(['trace', 'debug', 'info', 'warn', 'error', 'fatal', 'silent'])
/** Beyond this, lines are dropped rather than held: nobody reads standard error. */
const LIMIT_BYTES = 1024 * 1024

/**
 * The application log: JSON lines `{"level","time","pid",…,"msg"}`. Writing never blocks and never throws.
 *
 * @throws RangeError for a level that does not exist.
 */
export function createLog(options: LogOptions): LevelLog {
  checkLevel(options.level)
  const standardError = options.destination === undefined ? openStandardError() : undefined
  const logger = pino(
    {
      level: options.level,
      base: { pid: process.pid },
      timestamp: pino.stdTimeFunctions.isoTime,
      formatters: { level: (label) => ({ level: label }) },
    },
    standardError ?? options.destination,
  )
  return {
    debug: (message, fields) => logger.debug(fields ?? {}, message),
    info: (message, fields) => logger.info(fields ?? {}, message),
    warn: (message, fields) => logger.warn(fields ?? {}, message),
    error: (message, fields) => logger.error(fields ?? {}, message),
    get level() {
      return logger.level
    },
    setLevel(level) {
      checkLevel(level)
      logger.level = level
    },
    flush: () => flush(standardError),
  }
}

function checkLevel(level: string): void {
  if (!LEVELS.includes(level)) throw new RangeError(`unknown log level "${level}": ${LEVELS.join(', ')}`)
}

function openStandardError(): SonicBoom {
  const stream = new sonicBoom.SonicBoom({ fd: 2, sync: false, maxLength: LIMIT_BYTES })
  // A closed terminal or pipe must not end the proxy.
  stream.on('error', () => {})
  return stream
}

function flush(stream: SonicBoom | undefined): void {
  try {
    stream?.flushSync()
  } catch {
    // The descriptor is gone or full: there is nowhere left to say so.
  }
}
