import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { connect, createServer } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import type { Test } from 'tap'

/** A port that was free a moment ago: nginx and haproxy cannot tell which one they got. */
export async function freePort(): Promise<number> {
  const server = createServer().listen(0, '127.0.0.1')
  await once(server, 'listening')
  const { port } = server.address() as { port: number }
  server.close()
  await once(server, 'close')
  return port
}

/** A folder of its own, gone when the test has ended. */
export function folderFor(t: Test): string {
  const folder = mkdtempSync(join(tmpdir(), 'headgate-servers-'))
  t.teardown(() => rmSync(folder, { recursive: true, force: true }))
  return folder
}

/**
 * nginx in the foreground with one worker; `server` is what stands in its server block, `listen` what its listen
 * directive says behind the address. Answers its port.
 */
export async function startNginx(t: Test, program: string, server: string, http = '', listen = ''): Promise<number> {
  const folder = folderFor(t)
  const port = await freePort()
  mkdirSync(join(folder, 'temp'))
  const temporary = ['client_body', 'proxy', 'fastcgi', 'uwsgi', 'scgi']
    .map((name) => `${name}_temp_path ${folder}/temp/${name};`)
    .join('\n  ')
  // Without `user` the workers of a root nginx could not read the folder.
  const user = process.getuid?.() === 0 ? 'user root;\n' : ''
  writeFileSync(
    join(folder, 'nginx.conf'),
    `daemon off;
${user}worker_processes 1;
pid ${folder}/nginx.pid;
error_log stderr warn;
events { worker_connections 512; }
http {
  access_log off;
  client_max_body_size 64m;
  ${temporary}
  ${http}
  server {
    listen 127.0.0.1:${port} backlog=511 ${listen};
    root ${folder};
    ${server}
  }
}
`,
  )
  await launch(t, program, ['-p', folder, '-c', join(folder, 'nginx.conf'), '-e', 'stderr'], port)
  return port
}

/** How haproxy's two sides speak: options behind its `bind` and `server`. */
export interface HaproxyOptions {
  readonly bind?: string
  readonly server?: string
}

/** haproxy in the foreground with one thread before one server. Answers its port. */
export async function startHaproxy(
  t: Test,
  program: string,
  upstreamPort: number,
  options: HaproxyOptions = {},
): Promise<number> {
  const port = await freePort()
  const config = join(folderFor(t), 'haproxy.cfg')
  writeFileSync(
    config,
    `global
  nbthread 1
  maxconn 512
defaults
  mode http
  timeout connect 5s
  timeout client 20s
  timeout server 20s
  option http-keep-alive
  http-reuse always
frontend in
  bind 127.0.0.1:${port} ${options.bind ?? ''}
  default_backend out
backend out
  server only 127.0.0.1:${upstreamPort} ${options.server ?? ''}
`,
  )
  await launch(t, program, ['-db', '-f', config], port)
  return port
}

/** nghttpx with one worker before one backend; both are given as its options want them, without addresses. */
export async function startNghttpx(
  t: Test,
  program: string,
  front: { readonly options: string; readonly arguments?: readonly string[] },
  back: { readonly port: number; readonly options: string; readonly arguments?: readonly string[] },
): Promise<number> {
  const port = await freePort()
  // No file of the machine's own configuration.
  const config = join(folderFor(t), 'nghttpx.conf')
  writeFileSync(config, '')
  await launch(
    t,
    program,
    [
      ...[`--conf=${config}`, '--workers=1', '--accesslog-file=/dev/null', '--errorlog-file=/dev/stderr', '-LWARN'],
      ...[`--frontend=127.0.0.1,${port};${front.options}`, ...(front.arguments ?? [])],
      ...[`--backend=127.0.0.1,${back.port};;${back.options}`, ...(back.arguments ?? [])],
    ],
    port,
  )
  return port
}

/** nghttpd without TLS, serving `folder`. Answers its port. */
export async function startNghttpd(
  t: Test,
  program: string,
  folder: string,
  ...more: readonly string[]
): Promise<number> {
  const port = await freePort()
  await launch(t, program, ['--no-tls', `--htdocs=${folder}`, '--address=127.0.0.1', ...more, String(port)], port)
  return port
}

/** A program that ends with the test; resolves when the port is listened on. */
export async function launch(t: Test, program: string, args: readonly string[], port: number): Promise<void> {
  const child = spawn(program, args, { stdio: ['ignore', 'ignore', 'pipe'] })
  let said = ''
  child.stderr.on('data', (chunk: Buffer) => {
    said += chunk.toString('utf8')
  })
  const ended = once(child, 'close')
  t.teardown(async () => {
    // SIGTERM lets nginx end its workers, which a SIGKILL of the master would leave behind.
    child.kill('SIGTERM')
    await ended
  })
  const until = Date.now() + 10_000
  while (!(await listens(port))) {
    if (hasEnded(child) || Date.now() > until) throw new Error(`${program} does not listen on ${port}:\n${said}`)
    await sleep(20)
  }
}

function hasEnded(child: ChildProcess): boolean {
  return child.exitCode !== null || child.signalCode !== null
}

async function listens(port: number): Promise<boolean> {
  const socket = connect(port, '127.0.0.1')
  const connected = await Promise.race([
    once(socket, 'connect').then(
      () => true,
      () => false,
    ),
    once(socket, 'error').then(() => false),
  ])
  socket.destroy()
  return connected
}
