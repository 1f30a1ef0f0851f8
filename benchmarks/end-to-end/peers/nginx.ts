import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { findProgram } from '../../load/machine.ts'
import type { ProxyTask, Variant } from '../variant.ts'

/** nginx with one worker, kept upstream connections and streamed bodies, as a reverse proxy is usually set up. */
export const nginx: Variant = {
  name: 'nginx',
  missing: () => (findProgram('nginx') === undefined ? 'nginx is not installed' : undefined),
  prepare(task) {
    const file = join(task.folder, 'nginx.conf')
    writeFileSync(file, configOf(task))
    return { command: [findProgram('nginx')!, '-p', task.folder, '-e', join(task.folder, 'nginx.err'), '-c', file] }
  },
}

function configOf(task: ProxyTask): string {
  const log = task.logFile === undefined ? 'off' : `${task.logFile} combined buffer=16k flush=1s`
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
    keepalive 256;
    keepalive_requests 1000000000;
    keepalive_time 24h;
  }
  server {
    listen 127.0.0.1:${task.listenPort} backlog=4096;
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
