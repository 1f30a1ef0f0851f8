import type { Origin } from '../../support/origin.ts'
import type { WireClient } from '../../support/wire.ts'
import { logPath } from './bootstrap.ts'
import { type Difference, describeDifference, differences } from './compare.ts'
import type { Group } from './group.ts'
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
  const rows: { probe: string; envoy: Observation; headgate: Observation }[] = []
  for (const probe of group.probes) {
    const envoy = await observe(bench.envoy, probe, outside)
    const headgate = await observe(bench.headgate, probe, outside)
    rows.push({ probe: probe.name, envoy, headgate })
  }
  const logs = await bothLogs(bench, group)
  const result: Disagreement[] = []
  if (logs.envoy.length !== logs.headgate.length) {
    const found = [`envoy: ${logs.envoy.join('\n  ')}`, `headgate: ${logs.headgate.join('\n  ')}`]
    result.push({ probe: `number of log lines: ${logs.envoy.length}, ${logs.headgate.length}`, found })
  }
  // One line per probe, in order; where a probe makes none or several, the lines are compared by themselves.
  const aligned = logs.envoy.length === rows.length && logs.headgate.length === rows.length
  for (const [index, { probe, envoy, headgate }] of rows.entries()) {
    if (aligned) addLines(envoy, headgate, { envoy: logs.envoy[index], headgate: logs.headgate[index] })
    note(result, probe, known.unexplained(group.name, probe, differences(envoy, headgate)))
  }
  if (!aligned && logs.envoy.length === logs.headgate.length) {
    for (const [index, line] of logs.envoy.entries()) {
      const found = differences(noteLine(line), noteLine(logs.headgate[index]))
      note(result, `log line ${index + 1}`, known.unexplained(group.name, `log line ${index + 1}`, found))
    }
  }
  return result
}

function note(result: Disagreement[], probe: string, found: readonly Difference[]): void {
  if (found.length > 0) result.push({ probe, found: found.map(describeDifference) })
}

async function bothLogs(bench: Bench, group: Group): Promise<{ envoy: string[]; headgate: string[] }> {
  const expected = group.probes.reduce((sum, probe) => sum + (probe.lines ?? 1), 0)
  const [envoy, headgate] = await Promise.all(
    [bench.envoy, bench.headgate].map((proxy) => readLog(logPath(group, proxy.logs), expected)),
  )
  return { envoy, headgate }
}

function addLines(envoy: Observation, headgate: Observation, lines: { envoy: string; headgate: string }): void {
  for (const [where, value] of noteLine(lines.envoy)) envoy.set(where, value)
  for (const [where, value] of noteLine(lines.headgate)) headgate.set(where, value)
}
