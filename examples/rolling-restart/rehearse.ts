import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { createServer, get } from 'node:http'
import { fileURLToPath } from 'node:url'

// Replaces, kills and stops parts of a gateway while four clients ask it all the time, and tells what they noticed.
// node rehearse.ts [config.yaml [port of the application]]

const config = process.argv[2] ?? fileURLToPath(new URL('config.yaml', import.meta.url))
const application = createServer((_request, response) => response.end('hello\n'))
application.listen(Number(process.argv[3] ?? 20000), '127.0.0.1')
await once(application, 'listening')

// Outside of this repository: spawn('headgate', ['run', ...
const main = fileURLToPath(new URL('../../lib/cli/main.ts', import.meta.url))
const flags = ['--config', config, '--workers', '2', '--drain-time-s', '10', '--drain-min-time-s', '1']
const gateway = spawn(process.execPath, ['--disable-sigusr1', main, 'run', ...flags], {
  stdio: ['ignore', 'ignore', 'pipe'],
})
let ending = false
gateway.once('exit', (status) => {
  console.log(`ended with status ${status}`)
  // Nobody is left to ask.
  if (!ending) process.exit(1)
})

/** Resolves with the first line of the gateway's log that says this. */
function said(message: string): Promise<Record<string, unknown>> {
  return new Promise((resolve) => {
    const look = (text: Buffer): void => {
      for (const line of String(text).split('\n')) {
        if (!line.includes(`"msg":"${message}"`)) continue
        gateway.stderr.off('data', look)
        resolve(JSON.parse(line) as Record<string, unknown>)
      }
    }
    gateway.stderr.on('data', look)
  })
}

const { admin } = await said('ready')
const text = async (path: string, method = 'GET'): Promise<string> =>
  (await fetch(`http://${admin}${path}`, { method })).text()
const web = /^web::(.*)$/m.exec(await text('/listeners'))?.[1]

let going = true
let answered = 0
let failed = 0

/** One request after the other; every other one on a connection of its own. */
async function client(): Promise<void> {
  for (let i = 0; going; i++) {
    const ok = await new Promise<boolean>((resolve) => {
      const request = get(`http://${web}/`, { agent: i % 2 === 0 ? undefined : false }, (response) => {
        response.resume().on('end', () => resolve(response.statusCode === 200))
      })
      request.on('error', () => resolve(false))
    })
    if (ok) answered++
    else failed++
  }
}

const clients = [client(), client(), client(), client()]

async function rehearse(what: string, act: () => Promise<unknown>): Promise<void> {
  const before = { answered, failed }
  await act()
  await new Promise((resolve) => setTimeout(resolve, 500))
  console.log(`${what}: ${answered > before.answered ? 'served' : 'not served'}, ${failed - before.failed} failed`)
}

await rehearse('all workers replaced by a signal', () => {
  const replaced = said('workers have been replaced')
  gateway.kill('SIGUSR2')
  return replaced
})
await rehearse('all workers replaced by admin', async () => {
  const replaced = said('workers have been replaced')
  await text('/restart_workers', 'POST')
  return replaced
})
await rehearse('told to end', async () => {
  ending = true
  gateway.kill('SIGTERM')
  while ((await text('/ready')) === 'LIVE\n');
  going = false
  // The gateway takes connections for a second more: time enough for a load balancer to look at /ready.
  await Promise.all(clients)
})
application.close()
application.closeAllConnections()
