import { readFileSync } from 'node:fs'
import { setTimeout as sleep } from 'node:timers/promises'
import type { Test } from 'tap'
import { cluster, type Data } from './envoy/group.ts'
import { type RunningProxy, startEnvoy, startHeadgate } from './envoy/processes.ts'
import { type ListenerSpec, type LogLine, proxyBootstrap } from './gateway-config.ts'
import { folderFor } from './servers.ts'

/** A proxy before its upstreams, until the test ends. */
export interface Gateway {
  /** Of the listener of that name; default: `ingress`. */
  port(name?: string): number
  /** A counter or gauge, once it is `wanted`, or as it stands after `withinMs`. */
  stat(name: string, wanted: number, withinMs?: number): Promise<number>
  /** The access log of a listener, once it has `lines` lines, or as it stands after `withinMs`. */
  log(lines: number, listener?: string, withinMs?: number): Promise<LogLine[]>
  /** Insists that no process of the gateway has ended or complained of itself. */
  assertUnharmed(t: Test): Promise<void>
}

/** Headgate before one upstream, until the test ends; answers its port. */
export async function gatewayBefore(t: Test, upstreamPort: number, hcm: Data = {}): Promise<number> {
  const gateway = await startGateway(t, [{ hcm: { access_log: [], ...hcm } }], [cluster('origin', [upstreamPort])])
  return gateway.port()
}

/** Headgate with these listeners and clusters. */
export async function startGateway(
  t: Test,
  listeners: readonly ListenerSpec[],
  clusters: readonly Data[],
): Promise<Gateway> {
  return running(t, await startHeadgate(proxyBootstrap(listeners, clusters), folderFor(t)))
}

/** Envoy with these listeners and clusters. */
export async function envoyGateway(
  t: Test,
  program: string,
  listeners: readonly ListenerSpec[],
  clusters: readonly Data[],
): Promise<Gateway> {
  return running(t, await startEnvoy(program, proxyBootstrap(listeners, clusters), folderFor(t)))
}

function running(t: Test, proxy: RunningProxy): Gateway {
  t.teardown(() => proxy.stop())
  const port = (name = 'ingress'): number => proxy.ports.get(name) ?? 0
  return {
    port,
    stat: (name, wanted, withinMs = 10_000) =>
      until(
        async () => statOf(await (await fetch(`${proxy.admin}/stats`)).text(), name),
        (value) => value === wanted,
        withinMs,
      ),
    log: (lines, listener = 'ingress', withinMs = 15_000) =>
      until(
        () => readLog(`${proxy.logs}/${listener}.log`),
        (found) => found.length >= lines,
        withinMs,
      ),
    async assertUnharmed(t): Promise<void> {
      const complaints = proxy
        .stderr()
        .split('\n')
        .filter((line) => /"level":(?:50|60)\b|is started again/.test(line))
      t.same(complaints, [], 'no process has ended or complained')
      t.equal((await fetch(`${proxy.admin}/ready`)).status, 200, 'the gateway is ready')
    },
  }
}

async function until<T>(look: () => T | Promise<T>, enough: (value: T) => boolean, withinMs: number): Promise<T> {
  const endMs = Date.now() + withinMs
  for (;;) {
    const value = await look()
    if (enough(value) || Date.now() > endMs) return value
    await sleep(50)
  }
}

/** -1 where there is none of that name. */
function statOf(text: string, name: string): number {
  const line = text.split('\n').find((candidate) => candidate.startsWith(`${name}: `))
  return line === undefined ? -1 : Number(line.slice(name.length + 2))
}

function readLog(path: string): LogLine[] {
  try {
    const text = readFileSync(path, 'utf8')
    // The last one may be half written.
    const lines = text.slice(0, text.lastIndexOf('\n') + 1).split('\n')
    return lines.filter((line) => line !== '').map((line) => JSON.parse(line) as LogLine)
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return []
    throw error
  }
}
