import type { Origin } from '../../support/origin.ts'
import type { WireClient } from '../../support/wire.ts'
import { logPath } from './bootstrap.ts'
import { differences, undocumented } from './compare.ts'
import type { Group, Probe } from './group.ts'
import { noteLine, readLog } from './log-lines.ts'
import { type Observation, observe } from './observe.ts'
import type { RunningProxy } from './processes.ts'

export interface Bench {
  readonly envoy: RunningProxy
  readonly headgate: RunningProxy
  readonly origin: Origin
  readonly client: WireClient
}

/** What the proxies disagreed on, probe by probe, beyond what is documented. Empty: they agree. */
export async function compareGroup(bench: Bench, group: Group): Promise<{ probe: string; found: string[] }[]> {
  const outside = { client: bench.client, origin: bench.origin, group: group.name }
  const rows: { probe: Probe; envoy: Observation; headgate: Observation }[] = []
  for (const probe of group.probes) {
    const envoy = await observe(bench.envoy, probe, outside)
    const headgate = await observe(bench.headgate, probe, outside)
    rows.push({ probe, envoy, headgate })
  }
  const logs = await bothLogs(bench, group)
  const result: { probe: string; found: string[] }[] = []
  if (logs.envoy.length !== logs.headgate.length) {
    const found = [`envoy: ${logs.envoy.join('\n  ')}`, `headgate: ${logs.headgate.join('\n  ')}`]
    result.push({ probe: `number of log lines: ${logs.envoy.length}, ${logs.headgate.length}`, found })
  }
  // One line per probe, in order; where a probe makes none or several, the lines are compared beneath the last probe.
  const aligned = logs.envoy.length === rows.length && logs.headgate.length === rows.length
  for (const [index, { probe, envoy, headgate }] of rows.entries()) {
    if (aligned) addLines(envoy, headgate, { envoy: logs.envoy[index], headgate: logs.headgate[index] })
    const found =
      probe.apart === undefined
        ? undocumented(differences(envoy, headgate), probe.differs, probe.ignore)
        : apart(probe.apart, envoy, headgate)
    if (found.length > 0) result.push({ probe: probe.name, found })
  }
  if (!aligned && logs.envoy.length === logs.headgate.length) {
    for (const [index, line] of logs.envoy.entries()) {
      const found = undocumented(differences(noteLine(line), noteLine(logs.headgate[index])))
      if (found.length > 0) result.push({ probe: `log line ${index + 1}`, found })
    }
  }
  return result
}

/** Of exchanges that are documented to differ as a whole: the two statuses. */
function apart(expected: NonNullable<Probe['apart']>, envoy: Observation, headgate: Observation): string[] {
  return (['envoy', 'headgate'] as const).flatMap((kind) => {
    const status = ((kind === 'envoy' ? envoy : headgate).get('status') ?? '')
      .replace(/^HTTP\S+ /, '')
      .split(/[ :]/, 1)[0]
    return status === expected[kind] ? [] : [`${kind} answers ${status}, ${expected.row} says ${expected[kind]}`]
  })
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
