import { spawnSync } from 'node:child_process'
import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { findProgram } from '../../load/machine.ts'
import { HTTP2_LIMITS, type ProxyTask, type Variant } from '../variant.ts'

/**
 * nginx with one worker, kept upstream connections and streamed bodies, as a reverse proxy is usually set up. It speaks
 * HTTP/2 with upstreams for gRPC alone (`grpc_pass`), which is left out.
 */
export const nginx: Variant = {
  name: 'nginx',
  quick: true,
  speaks: (traffic) => traffic.upstream === 'http1' && traffic.layer4 === undefined,
  missing: () => (findProgram('nginx') === undefined ? 'nginx is not installed' : undefined),
  prepare(task) {
    const file = join(task.folder, 'nginx.conf')
    writeFileSync(file, configOf(task))
    return { command: [findProgram('nginx')!, '-p', task.folder, '-e', join(task.folder, 'nginx.err'), '-c', file] }
  },
}

function configOf(task: ProxyTask): string {
  const log = task.logFile === undefined ? 'off' : `${task.logFile} combined buffer=16k flush=1s`
  const http2 = task.traffic.client === 'http2' || task.certificate !== undefined
  // Before 1.25.1 a parameter of `listen`, after it a directive.
  const asDirective = http2 && isAtLeast(1, 25, 1)
  const tls = task.certificate
  const listen = `${tls === undefined ? '' : ' ssl'}${http2 && !asDirective ? ' http2' : ''}`
  const server = [
    asDirective ? 'http2 on;' : '',
    tls === undefined ? '' : `ssl_certificate ${tls.certificateFile}; ssl_certificate_key ${tls.keyFile};`,
    tls === undefined ? '' : 'ssl_protocols TLSv1.2 TLSv1.3;',
  ].join(' ')
  return `daemon off;
worker_processes 1;
pid ${task.folder}/nginx.pid;
error_log ${task.folder}/nginx.err error;
events { worker_connections 12000; }
http {
  access_log ${log};
  client_body_temp_path ${task.folder}/client;
  proxy_temp_path ${task.folder}/proxy;
  fastcgi_temp_path ${task.folder}/fastcgi;
  uwsgi_temp_path ${task.folder}/uwsgi;
  scgi_temp_path ${task.folder}/scgi;
  keepalive_timeout 300s;
  keepalive_requests 1000000000;
  client_max_body_size 0;
  proxy_max_temp_file_size 0;
  proxy_request_buffering off;
  upstream origin {
    server 127.0.0.1:${task.originPort};
    keepalive 1024;
    keepalive_requests 1000000000;
    keepalive_time 24h;
  }
  server {
    listen 127.0.0.1:${task.listenPort} backlog=4096${listen};
    ${server}
    http2_max_concurrent_streams ${HTTP2_LIMITS.streams};
    location / {
      proxy_pass http://origin;
      proxy_http_version 1.1;
      proxy_set_header Connection "";
      proxy_set_header Host $http_host;
      proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;
      proxy_set_header X-Request-Id $request_id;
    }
  }
}
`
}

/** Compares the installed version. */
function isAtLeast(major: number, minor: number, patch: number): boolean {
  // It prints its version to standard error.
  const { stderr } = spawnSync(findProgram('nginx')!, ['-v'], { encoding: 'utf8' })
  const match = /nginx\/(\d+)\.(\d+)\.(\d+)/.exec(stderr)
  if (match === null) return false
  const number = (a: number, b: number, c: number): number => (a * 1000 + b) * 1000 + c
  return number(Number(match[1]), Number(match[2]), Number(match[3])) >= number(major, minor, patch)
}
