/**
 * `node benchmarks/profile.ts [--workload NAME] [--variant NAME] [--seconds S] [--warm-up S] [--top N] [--log] [--keep FILE]`
 *
 * Starts a Node variant (headgate's worker unless told otherwise) with V8's CPU profiler, puts a load on it (that of the
 * `requests` suite unless told otherwise; `http2`, `grpc` and the others are in end-to-end/workload.ts; `handshakes`: new TLS connections) and prints where
 * its time went: by group, then the functions with the largest self time. Of several processes the busiest is shown. Only
 * samples taken under the measured load count, so start-up and warm-up are left out.
 */
import { copyFileSync, mkdirSync, readdirSync, readFileSync, rmSync } from 'node:fs'
import { join } from 'node:path'
import { parseArgs } from 'node:util'
import { measureHandshakes } from './end-to-end/handshakes.ts'
import { HEADGATE } from './end-to-end/headgate.ts'
import { type RunningProxy, startProxy } from './end-to-end/running-proxy.ts'
import { measureLoaded, type SuiteContext } from './end-to-end/suite.ts'
import { allVariants } from './end-to-end/variants.ts'
import { WORKLOADS, type Workload, withOrigin } from './end-to-end/workload.ts'
import { makeCertificate } from './load/certificate.ts'
import { prepareMachine } from './load/machine.ts'
import { startOrigin } from './load/origin.ts'
import { temporaryFolder } from './load/temporary.ts'
import { type CpuProfile, type SelfTime, selfTimes } from './self-time.ts'

const { values } = parseArgs({
  options: {
    variant: { type: 'string', default: HEADGATE },
    workload: { type: 'string', default: 'requests' },
    seconds: { type: 'string', default: '5' },
    'warm-up': { type: 'string', default: '3' },
    top: { type: 'string', default: '30' },
    log: { type: 'boolean', default: false },
    keep: { type: 'string' },
  },
})

const variant = allVariants().find((one) => one.name === values.variant)
if (variant === undefined) throw new Error(`no variant "${values.variant}"`)
const missing = variant.missing()
if (missing !== undefined) throw new Error(`${variant.name}: ${missing}`)

/** `handshakes` is no load of requests: each connection counts as one. */
const HANDSHAKES = 'handshakes'
const workload: Workload | undefined =
  values.workload === HANDSHAKES ? WORKLOADS['tls-http1'] : WORKLOADS[values.workload as keyof typeof WORKLOADS]
if (workload === undefined)
  throw new Error(`--workload must be one of ${Object.keys(WORKLOADS).join(', ')}, ${HANDSHAKES}`)
const { traffic, probe, shape } = workload

const machine = prepareMachine()
const folder = temporaryFolder()
const profiles = join(folder, 'profiles')
mkdirSync(profiles)
const origin = await startOrigin(machine, folder)
try {
  const bench = { machine, folder, originPort: origin.port, certificate: await makeCertificate(folder) }
  const options = { rounds: 1, seconds: Number(values.seconds), warmUpSeconds: 0 }
  const shared = { bench, origin, candidates: [variant], variants: [variant], skipped: [], progress: () => {} }
  const { requests, cpuUs, window } = await withOrigin(workload.answers, { ...shared, options }, measured)
  const { file, lines } = busiest(profiles, window)
  if (values.keep !== undefined) copyFileSync(file, values.keep)
  process.stdout.write(
    `${variant.name}: ${(cpuUs / requests).toFixed(1)} µs CPU per request, profiler on, ${requests} requests\n\n`,
  )
  process.stdout.write(printed(lines, requests, Number(values.top)))
} finally {
  await origin.stop()
  rmSync(folder, { recursive: true, force: true })
}

interface Measured {
  readonly requests: number
  readonly cpuUs: number
  readonly window: Window
}

async function measured(context: SuiteContext): Promise<Measured> {
  const env = { NODE_OPTIONS: `--cpu-prof --cpu-prof-dir=${profiles} --cpu-prof-interval=200` }
  const proxy = await startProxy(variant!, context.bench, { log: values.log, env, traffic, probe })
  try {
    const warmUp = { ...context, options: { ...context.options, seconds: Number(values['warm-up']) } }
    if (warmUp.options.seconds > 0) await underLoad(proxy, warmUp)
    // The profiler's clock and this one are both the machine's monotonic clock.
    const from = monotonicUs()
    const use = await underLoad(proxy, context)
    return { ...use, window: { from, to: monotonicUs() } }
  } finally {
    await proxy.stop(20_000)
  }
}

async function underLoad(proxy: RunningProxy, context: SuiteContext): Promise<{ requests: number; cpuUs: number }> {
  if (values.workload !== HANDSHAKES) {
    const use = await measureLoaded(proxy, shape, context)
    return { requests: use.load.requests, cpuUs: use.busiestUs }
  }
  const { cpu, rate } = await measureHandshakes(proxy, { connections: 16, group: 'X25519' }, context)
  const requests = Math.round(rate * context.options.seconds)
  return { requests, cpuUs: cpu * requests }
}

function monotonicUs(): number {
  return Number(process.hrtime.bigint() / 1000n)
}

interface Window {
  readonly from: number
  readonly to: number
}

/** The profile with the most time spent outside idling. */
function busiest(directory: string, window: Window): { file: string; lines: SelfTime[] } {
  let best: { file: string; lines: SelfTime[] } | undefined
  for (const name of readdirSync(directory)) {
    const file = join(directory, name)
    const lines = selfTimes(JSON.parse(readFileSync(file, 'utf8')) as CpuProfile, window)
    if (best === undefined || activeUs(lines) > activeUs(best.lines)) best = { file, lines }
  }
  if (best === undefined) throw new Error('no profile was written: did the process end on SIGTERM by an orderly exit?')
  return best
}

function activeUs(lines: readonly SelfTime[]): number {
  return lines.reduce((sum, line) => (line.group === 'idle' ? sum : sum + line.us), 0)
}

function printed(lines: readonly SelfTime[], requests: number, top: number): string {
  const active = activeUs(lines)
  const row = (us: number, text: string): string =>
    `${((us / active) * 100).toFixed(1).padStart(5)} % ${(us / requests).toFixed(2).padStart(7)} µs/request  ${text}\n`
  const groups = new Map<string, number>()
  for (const line of lines) if (line.group !== 'idle') groups.set(line.group, (groups.get(line.group) ?? 0) + line.us)
  let text = 'By group\n'
  for (const [group, us] of [...groups].sort((a, b) => b[1] - a[1])) text += row(us, group)
  text += `\nLargest self times\n`
  for (const line of lines.filter((one) => one.group !== 'idle').slice(0, top))
    text += row(line.us, `${line.name}  ${line.place}`)
  return text
}
