import { findProgram } from '../../load/machine.ts'
import { HTTP2_LIMITS, type ProxyTask, type Variant } from '../variant.ts'

/** nghttpx with one worker thread. Without mruby, which packages leave out, it cannot make a request id. */
export const nghttpx: Variant = {
  name: 'nghttpx',
  noRequestId: true,
  quick: false,
  speaks: (traffic) => traffic.layer4 === undefined && (traffic.client === 'http2' || traffic.tls === true),
  missing: () => (findProgram('nghttpx') === undefined ? 'nghttpx is not installed' : undefined),
  prepare(task) {
    return { command: [findProgram('nghttpx')!, ...argumentsOf(task)] }
  },
}

function argumentsOf(task: ProxyTask): string[] {
  const { certificate, traffic } = task
  const limits = HTTP2_LIMITS
  const backend = traffic.upstream === 'http2' ? ';;proto=h2' : ';;proto=http/1.1'
  return [
    `--frontend=127.0.0.1,${task.listenPort}${certificate === undefined ? ';no-tls' : ''}`,
    `--backend=127.0.0.1,${task.originPort}${backend}`,
    '--conf=/dev/null',
    '--workers=1',
    '--backlog=4096',
    '--add-x-forwarded-for',
    '--no-ocsp',
    '--log-level=ERROR',
    '--errorlog-file=/dev/stderr',
    `--accesslog-file=${task.logFile ?? '/dev/null'}`,
    '--backend-keep-alive-timeout=300s',
    '--backend-read-timeout=300s',
    '--frontend-http2-read-timeout=300s',
    '--stream-write-timeout=0',
    `--frontend-http2-max-concurrent-streams=${limits.streams}`,
    `--frontend-http2-window-size=${limits.streamWindow - 1}`,
    `--frontend-http2-connection-window-size=${limits.connectionWindow - 1}`,
    `--backend-http2-window-size=${limits.streamWindow - 1}`,
    `--backend-http2-connection-window-size=${limits.connectionWindow - 1}`,
    ...(certificate === undefined ? [] : [certificate.keyFile, certificate.certificateFile]),
  ]
}
