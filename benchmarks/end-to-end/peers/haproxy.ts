import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { findProgram } from '../../load/machine.ts'
import { HTTP2_LIMITS, type ProxyTask, type Variant } from '../variant.ts'

/** haproxy with one thread; its access log goes to standard output, the one place but syslog that it can write to. */
export const haproxy: Variant = {
  name: 'haproxy',
  quick: true,
  speaks: ({ layer4 }) => layer4 === undefined || layer4 === 'tcp',
  missing: () => (findProgram('haproxy') === undefined ? 'haproxy is not installed' : undefined),
  prepare(task) {
    const file = join(task.folder, 'haproxy.cfg')
    writeFileSync(file, configOf(task))
    return { command: [findProgram('haproxy')!, '-db', '-q', '-f', file], stdoutFile: task.logFile }
  },
}

function configOf(task: ProxyTask): string {
  if (task.traffic.layer4 !== undefined) return layer4ConfigOf(task)
  const log =
    task.logFile === undefined ? ['', ''] : ['  log stdout format raw local0', '  log global\n  option httplog']
  const { client, upstream } = task.traffic
  const tls = task.certificate === undefined ? '' : ` ssl crt ${task.certificate.bothFile}`
  const bind = tls === '' ? (client === 'http2' ? ' proto h2' : '') : `${tls} alpn h2,http/1.1`
  const server = upstream === 'http2' ? ' proto h2' : ''
  return `global
  nbthread 1
  maxconn 8000
  tune.h2.max-concurrent-streams ${HTTP2_LIMITS.streams}
  tune.h2.initial-window-size ${HTTP2_LIMITS.streamWindow}
${log[0]}
defaults
  mode http
${log[1]}
  http-reuse always
  timeout connect 5s
  timeout client 300s
  timeout server 300s
  timeout http-keep-alive 300s
frontend clients
  bind 127.0.0.1:${task.listenPort} backlog 4096${bind}
  option forwardfor
  unique-id-format %[uuid()]
  unique-id-header X-Request-Id
  default_backend origins
backend origins
  server origin 127.0.0.1:${task.originPort}${server}
`
}

/** Without splicing, which haproxy does not do unless told. */
function layer4ConfigOf(task: ProxyTask): string {
  const tls = task.certificate === undefined ? '' : ` ssl crt ${task.certificate.bothFile}`
  return `global
  nbthread 1
  maxconn 8000
defaults
  mode tcp
  timeout connect 5s
  timeout client 300s
  timeout server 300s
frontend clients
  bind 127.0.0.1:${task.listenPort} backlog 4096${tls}
  default_backend origins
backend origins
  server origin 127.0.0.1:${task.originPort}
`
}
