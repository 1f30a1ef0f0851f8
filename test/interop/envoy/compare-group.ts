import type { Origin } from '../../support/origin.ts'
import type { WireClient } from '../../support/wire.ts'
import { logPath } from './bootstrap.ts'
import { describeDifference, differences } from './compare.ts'
import type { Group, Probe } from './group.ts'
import type { Explanations } from './known-differences.ts'
import { noteLine, readLog } from './log-lines.ts'
import { type Observation, observe } from './observe.ts'
import type { RunningProxy } from './processes.ts'

export interface Bench {
  readonly envoy: RunningProxy
  readonly headgate: RunningProxy
  readonly origin: Origin
  readonly client: WireClient
}

/** What the proxies disagreed on, probe by probe. */
export interface Disagreement {
  readonly probe: string
  readonly found: readonly string[]
}

/** Asks both proxies everything the group asks, and answers what no known difference explains. Empty: they agree. */
export async function compareGroup(bench: Bench, group: Group, known: Explanations): Promise<Disagreement[]> {
  const outside = { client: bench.client, origin: bench.origin, group: group.name }
  const rows: { probe: Probe; envoy: Observation; headgate: Observation }[] = []
  for (const probe of group.probes) {
    const envoy = await observe(bench.envoy, probe, outside)
    const headgate = await observe(bench.headgate, probe, outside)
    rows.push({ probe, envoy, headgate })
  }
  const logs = await bothLogs(bench, group)
  const result: Disagreement[] = []
  const expected = linesOf(group)
  if (logs.envoy.length !== expected || logs.headgate.length !== expected) {
    const found = [`envoy: ${logs.envoy.join('\n  ')}`, `headgate: ${logs.headgate.join('\n  ')}`]
    result.push({ probe: `${expected} log lines: ${logs.envoy.length}, ${logs.headgate.length}`, found })
  }
  let line = 0
  for (const { probe, envoy, headgate } of rows) {
    for (let index = 0; index < (probe.lines ?? 1); index++, line++) {
      addLine(envoy, logs.envoy[line], index)
      addLine(headgate, logs.headgate[line], index)
    }
    const found = known.unexplained(group.name, probe.name, differences(envoy, headgate))
    if (found.length > 0) result.push({ probe: probe.name, found: found.map(describeDifference) })
  }
  return result
}

function linesOf(group: Group): number {
  return group.probes.reduce((sum, probe) => sum + (probe.lines ?? 1), 0)
}

async function bothLogs(bench: Bench, group: Group): Promise<{ envoy: string[]; headgate: string[] }> {
  const [envoy, headgate] = await Promise.all(
    [bench.envoy, bench.headgate].map((proxy) => readLog(logPath(group, proxy.logs), linesOf(group))),
  )
  return { envoy, headgate }
}

function addLine(seen: Observation, line: string | undefined, index: number): void {
  if (line === undefined) return
  for (const [where, value] of noteLine(line)) seen.set(index === 0 ? where : `${where} of line ${index + 1}`, value)
}
