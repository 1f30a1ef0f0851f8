import type { Log } from '../core/metrics.ts'

/** What the signals of a gateway's main process mean. */
export interface Stoppable {
  /** The second call ends at once. */
  stop(): void
  reopenLogs(): void
  /** Reads the configuration anew. */
  reload(): void
  restartWorkers(): void
}

/**
 * SIGTERM and SIGINT drain (stop accepting, answer what is in flight with `Connection: close`, end when idle or when the
 * drain time is over); a second one ends at once. SIGHUP reopens log files and reads the configuration anew, SIGUSR2
 * replaces all workers. Dispose to let the signals go.
 */
export function handleSignals(self: NodeJS.Process, gateway: Stoppable, log: Log): Disposable {
  let signals = 0
  const stop = (signal: string): void => {
    signals++
    log.info(signals === 1 ? 'draining; a second signal ends at once' : 'ending at once', { signal })
    gateway.stop()
  }
  const reopen = (): void => {
    gateway.reopenLogs()
    gateway.reload()
  }
  const restart = (): void => gateway.restartWorkers()
  self.on('SIGTERM', stop)
  self.on('SIGINT', stop)
  self.on('SIGHUP', reopen)
  self.on('SIGUSR2', restart)
  return {
    [Symbol.dispose](): void {
      self.off('SIGTERM', stop)
      self.off('SIGINT', stop)
      self.off('SIGHUP', reopen)
      self.off('SIGUSR2', restart)
    },
  }
}

/** A reader that went away (`headgate run | head`) must not end the gateway: what is written to it is lost, no more. */
export function ignoreBrokenPipes(self: NodeJS.Process): void {
  const ignore = (error: NodeJS.ErrnoException): void => {
    if (error.code !== 'EPIPE' && error.code !== 'ERR_STREAM_DESTROYED') throw error
  }
  self.stdout.on('error', ignore)
  self.stderr.on('error', ignore)
}
