import { spawn, spawnSync } from 'node:child_process'
import { once } from 'node:events'
import { closeSync, constants, existsSync, mkdirSync, openSync, readFileSync, readSync, renameSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { setImmediate as nextTurn } from 'node:timers/promises'
import { fileURLToPath } from 'node:url'
import t from 'tap'
import { flagBit } from '../../lib/core/failure.ts'
import type { Log } from '../../lib/core/metrics.ts'
import { compileAccessLog, DEFAULT_ACCESS_LOG_FORMAT } from '../../lib/telemetry/access-log.ts'
import { compileAccessLogFilter } from '../../lib/telemetry/access-log-filter.ts'
import type { AccessLogConfig, AccessLogFilterConfig } from '../../lib/telemetry/config.ts'
import type { LogStream } from '../../lib/telemetry/format.ts'
import { createLog } from '../../lib/telemetry/log.ts'
import { MetricsStore } from '../../lib/telemetry/metrics.ts'
import { AccessLogSinks } from '../../lib/telemetry/sinks/registry.ts'
import { TestClock } from '../support/clock.ts'
import { SAMPLE_ID, sampleStream } from './sample-stream.ts'

const runtime = { get: (key: string) => (key === 'share' ? 100 : undefined) }

function fixture(options: { closeDeadlineMs?: number; goOnWithout?: boolean } = {}): {
  clock: TestClock
  metrics: MetricsStore
  errors: string[]
  sinks: AccessLogSinks
} {
  const clock = new TestClock()
  const metrics = new MetricsStore()
  const errors: string[] = []
  const nothing = (): void => {}
  const log: Log = { debug: nothing, info: nothing, warn: nothing, error: (message) => void errors.push(message) }
  return { clock, metrics, errors, sinks: new AccessLogSinks({ log, metrics, clock, ...options }) }
}

/** Lets writes come back until `done`; a test that waits in vain ends with tap's timeout. */
async function until(done: () => boolean): Promise<void> {
  while (!done()) await nextTurn()
}

const environment = { hostname: 'gw', variable: () => undefined, clock: new TestClock(1_500) }

t.test("lines have Envoy's default format, a text format of their own, or JSON", async (t) => {
  const { sinks } = fixture()
  const path = join(t.testdir(), 'access.log')
  const config = (format?: AccessLogConfig['format']): AccessLogConfig => ({ sink: { kind: 'file', path }, format })
  const deps = { sinks, runtime, environment }
  const loggers = [
    compileAccessLog(config(), deps),
    compileAccessLog(config({ kind: 'text', text: '%RESPONSE_CODE% %REQ(X-NONE)% %ACCESS_LOG_TYPE%\n' }), deps),
    compileAccessLog(config({ kind: 'text', text: '<%REQ(X-NONE)%>\n', omitEmpty: true }), deps),
    compileAccessLog(config({ kind: 'json', json: { code: '%RESPONSE_CODE%', none: '%REQ(X-NONE)%' } }), deps),
    compileAccessLog(config({ kind: 'json', json: { none: '%REQ(X-NONE)%' }, omitEmpty: true }), deps),
  ]
  for (const logger of loggers) logger.log(sampleStream())
  await sinks.close()
  t.equal(
    readFileSync(path, 'utf8'),
    '[2024-02-03T04:05:06.789Z] "GET /before?old=1 HTTP/1.1" 503 UF,URX 100 2000 14 11 "203.0.113.9" "curl/8.5.0" ' +
      `"${SAMPLE_ID}" "shop.example:8443" "10.2.0.9:8080"\n` +
      '503 - DownstreamEnd\n<>\n{"code":503,"none":null}\n{}\n',
  )
  t.ok(DEFAULT_ACCESS_LOG_FORMAT.endsWith('\n'))
})

t.test('every filter decides as Envoy does', async (t) => {
  const clock = new TestClock(1_500)
  const keeps = (config: AccessLogFilterConfig, options: Parameters<typeof sampleStream>[0] = {}): boolean =>
    compileAccessLogFilter(config, { runtime, clock, logType: 'DownstreamEnd' })(sampleStream(options))
  const status = (op: 'EQ' | 'NE' | 'GE' | 'LE', value: number): AccessLogFilterConfig => ({
    kind: 'status',
    comparison: { op, value },
  })
  t.same(
    (['EQ', 'NE', 'GE', 'LE'] as const).map((op) => [502, 503, 504].map((value) => keeps(status(op, value)))),
    [
      [false, true, false],
      [true, false, true],
      [true, true, false],
      [false, true, true],
    ],
  )
  t.ok(keeps(status('EQ', 0), { status: 0 }), 'no response counts as 0')

  const slow: AccessLogFilterConfig = { kind: 'duration', comparison: { op: 'GE', value: 15 } }
  t.notOk(keeps(slow), '14.25 ms')
  t.ok(keeps(slow, { info: { endMs: 1_015.5 } }))
  t.ok(keeps(slow, { info: { endMs: 0 } }), 'by the clock while it runs')

  t.ok(keeps({ kind: 'not-health-check' }))
  t.notOk(keeps({ kind: 'not-health-check' }, { filterState: { health_check: true } }))

  const traced = (digit: string, filterState = {}): boolean => {
    const requestId = `7fffffff-1111-${digit}222-8333-444444444444`
    return keeps({ kind: 'traceable' }, { info: { requestId }, filterState })
  }
  t.same(
    ['4', '9', 'a', 'b', 'c'].map((digit) => traced(digit)),
    [false, true, true, true, false],
  )
  t.notOk(traced('9', { health_check: true }))
  t.notOk(keeps({ kind: 'traceable' }, { info: { requestId: 'custom-id-9' } }))

  const not503 = status('NE', 503)
  const is503 = status('EQ', 503)
  t.same(
    [
      [is503, is503],
      [is503, not503],
      [not503, not503],
    ].map((filters) => [keeps({ kind: 'and', filters }), keeps({ kind: 'or', filters })]),
    [
      [true, true],
      [false, true],
      [false, false],
    ],
  )

  const header = { name: 'user-agent', match: { kind: 'string', string: { kind: 'prefix', value: 'curl' } } } as const
  t.ok(keeps({ kind: 'header', header }))
  t.notOk(keeps({ kind: 'header', header }, { request: ['user-agent', 'other'] }))

  t.ok(keeps({ kind: 'response-flag', flags: [] }))
  t.notOk(keeps({ kind: 'response-flag', flags: [] }, { info: { flags: 0 } }))
  t.ok(keeps({ kind: 'response-flag', flags: ['UH', 'UF'] }))
  t.notOk(keeps({ kind: 'response-flag', flags: ['UH'] }))
  t.ok(keeps({ kind: 'response-flag', flags: ['UDO'] }, { info: { flags: flagBit('UDO') } }))
  t.throws(() => keeps({ kind: 'response-flag', flags: ['toString'] }), /unknown response flag "toString"/)

  const grpc = (statuses: number[], exclude: boolean, options = {}): boolean =>
    keeps({ kind: 'grpc-status', statuses, exclude }, options)
  t.same([grpc([5], false), grpc([5], true), grpc([0], false), grpc([0], true)], [true, false, false, true])
  t.ok(grpc([2], false, { trailers: [], status: 0 }), 'unknown where there was no response')

  const matcher = {
    namespace: 'com.test',
    path: ['deep', 'n'],
    value: { kind: 'double', exact: 7 },
  } as const
  const metadata = (matchIfKeyNotFound: boolean, data?: Record<string, never>): boolean =>
    keeps({ kind: 'metadata', matcher, matchIfKeyNotFound }, { metadata: data })
  t.same([metadata(false), metadata(true)], [true, true])
  t.same([metadata(false, {}), metadata(true, {})], [false, true])
  const other = { 'com.test': { deep: { n: 8 } } }
  t.notOk(keeps({ kind: 'metadata', matcher, matchIfKeyNotFound: true }, { metadata: other }))

  const type = (types: string[], exclude: boolean): boolean => keeps({ kind: 'log-type', types, exclude })
  t.same(
    [type(['DownstreamEnd'], false), type(['DownstreamEnd'], true), type(['UpstreamEnd'], false), type([], true)],
    [true, false, false, true],
  )
})

t.test("the runtime filter pivots on the request id's first eight digits, else on the exchange's draw", async (t) => {
  const share = (numerator: number, runtimeKey?: string): ((stream: LogStream) => boolean) =>
    compileAccessLogFilter(
      { kind: 'runtime', fraction: { numerator, denominator: 100, runtimeKey } },
      { runtime, clock: new TestClock(), logType: 'DownstreamEnd' },
    )
  // 0x7fffffff % 100 = 47
  t.same([share(47)(sampleStream()), share(48)(sampleStream())], [false, true])
  const noId = { request: [], info: { requestId: '' } }
  t.same(
    [share(50)(sampleStream({ ...noId, random: 0.49 })), share(50)(sampleStream({ ...noId, random: 0.5 }))],
    [true, false],
  )
  t.notOk(share(0)(sampleStream({ ...noId, random: 0 })), '0 % is none')
  t.ok(share(0, 'share')(sampleStream()), 'the runtime key wins')
  t.notOk(share(0, 'unset')(sampleStream()))
  let taken = 0
  for (let i = 0; i < 1_000; i++) {
    const requestId = `${(i * 4_001).toString(16).padStart(8, '0')}-1111-4222-8333-444444444444`
    if (share(30)(sampleStream({ info: { requestId } }))) taken++
  }
  t.equal(taken, 300)
})

t.test('a filtered log writes only what the filter takes', async (t) => {
  const { sinks } = fixture()
  const path = join(t.testdir(), 'access.log')
  const logger = compileAccessLog(
    {
      sink: { kind: 'file', path },
      format: { kind: 'text', text: '%RESPONSE_CODE%\n' },
      filter: { kind: 'status', comparison: { op: 'GE', value: 500 } },
    },
    { sinks, runtime, environment },
  )
  for (const status of [200, 500, 404, 503]) logger.log(sampleStream({ status }))
  await sinks.close()
  t.equal(readFileSync(path, 'utf8'), '500\n503\n')
})

t.test('files are flushed after 100 ms or 16 KiB, and everything on close', async (t) => {
  const { sinks, clock, metrics } = fixture()
  const path = join(t.testdir(), 'a.log')
  const lease = sinks.open({ kind: 'file', path })
  lease.write('one\n')
  lease.write('')
  lease.write('two\n')
  t.equal(clock.nextInMs, 100)
  t.equal(metrics.gauge('filesystem.write_total_buffered').v, 8)
  clock.advance(99)
  t.equal(readFileSync(path, 'utf8'), '')
  clock.advance(1)
  await until(() => metrics.counter('filesystem.write_completed').v === 1)
  t.equal(readFileSync(path, 'utf8'), 'one\ntwo\n')
  t.equal(metrics.counter('filesystem.flushed_by_timer').v, 1)
  t.equal(clock.pending, 0)

  lease.write('three\n')
  clock.advance(100)
  lease.write('four\n')
  t.equal(clock.pending, 0, 'one write at a time')
  clock.advance(40)
  await until(() => metrics.counter('filesystem.write_completed').v === 2)
  t.equal(clock.nextInMs, 60, 'what came during a write has waited for some of its time')
  clock.advance(60)
  await until(() => metrics.counter('filesystem.write_completed').v === 3)
  const before = readFileSync(path, 'utf8').length

  const long = `${'x'.repeat(1_023)}\n`
  for (let i = 0; i < 17; i++) lease.write(long)
  await until(() => metrics.counter('filesystem.write_completed').v === 4)
  t.equal(readFileSync(path, 'utf8').length, before + 16 * 1_024, 'a full buffer goes at once, the rest waits')
  await sinks.close()
  await sinks.close()
  t.equal(readFileSync(path, 'utf8').length, before + 17 * 1_024)
  t.equal(metrics.gauge('filesystem.write_total_buffered').v, 0)
  t.equal(clock.pending, 0)
  lease.write('late\n')
  t.equal(metrics.counter('access_logs.lines_dropped').v, 1, 'after close nothing is taken')
})

t.test('logs of the same path share a sink, which the last one closes', async (t) => {
  const { sinks, metrics } = fixture()
  const path = join(t.testdir(), 'shared.log')
  const config: AccessLogConfig = { sink: { kind: 'file', path }, format: { kind: 'text', text: '%RESPONSE_CODE%\n' } }
  const deps = { sinks, runtime, environment }
  const first = compileAccessLog(config, deps)
  const second = compileAccessLog(config, deps)
  first.log(sampleStream({ status: 200 }))
  first[Symbol.dispose]()
  first[Symbol.dispose]()
  second.log(sampleStream({ status: 201 }))
  second[Symbol.dispose]()
  const third = compileAccessLog(config, deps)
  third.log(sampleStream({ status: 202 }))
  await sinks.close()
  // The file of the last one and the next one's are written side by side.
  t.same(readFileSync(path, 'utf8').split('\n').sort(), ['', '200', '201', '202'])
  t.equal(metrics.counter('access_logs.lines_dropped').v, 0)
  t.throws(() => sinks.open({ kind: 'file', path: join(path, 'no') }), { code: 'ENOTDIR' })
})

t.test(
  'a file that cannot be opened is gone on without where that is wished, until log files are reopened',
  async (t) => {
    const { sinks, metrics, errors } = fixture({ goOnWithout: true })
    const path = join(t.testdir(), 'missing', 'a.log')
    const lease = sinks.open({ kind: 'file', path })
    t.match(errors, [new RegExp(`cannot open the log ${path}`)])
    t.equal(metrics.counter('filesystem.reopen_failed').v, 1)
    lease.write('nowhere\n')
    mkdirSync(dirname(path))
    sinks.reopen()
    lease.write('here\n')
    await sinks.close()
    t.match(readFileSync(path, 'utf8'), /here\n$/)
  },
)

t.test('reopen follows a rotation, loses nothing, and keeps the old file where the new one fails', async (t) => {
  const { sinks, clock, metrics, errors } = fixture()
  const folder = t.testdir({ logs: {} })
  const path = join(folder, 'logs', 'a.log')
  const lease = sinks.open({ kind: 'file', path })
  lease.write('before\n')
  clock.advance(1_000)
  await until(() => metrics.counter('filesystem.write_completed').v === 1)
  renameSync(path, `${path}.1`)
  // A batch on its way is finished on the old file.
  const batch = `${'y'.repeat(64 * 1024)}\n`
  lease.write(batch)
  sinks.reopen()
  sinks.reopen()
  lease.write('after\n')
  await until(() => metrics.counter('filesystem.write_completed').v === 2)
  clock.advance(1_000)
  await until(() => metrics.counter('filesystem.write_completed').v === 3)
  t.equal(readFileSync(`${path}.1`, 'utf8'), `before\n${batch}`)
  t.equal(readFileSync(path, 'utf8'), 'after\n')

  renameSync(join(folder, 'logs'), join(folder, 'moved'))
  sinks.reopen()
  t.equal(metrics.counter('filesystem.reopen_failed').v, 1)
  t.match(errors, [/cannot reopen the access log/])
  lease.write('still\n')
  await sinks.close()
  t.equal(readFileSync(join(folder, 'moved', 'a.log'), 'utf8'), 'after\nstill\n')
})

t.test(
  'a full disk drops and counts lines, complains once a minute, and goes on',
  { skip: !existsSync('/dev/full') },
  async (t) => {
    const { sinks, clock, metrics, errors } = fixture()
    const lease = sinks.open({ kind: 'file', path: '/dev/full' })
    for (let round = 1; round <= 3; round++) {
      lease.write('a\n')
      lease.write('b\n')
      clock.advance(1_000)
      await until(() => metrics.counter('filesystem.write_failed').v === round)
      t.equal(metrics.counter('access_logs.lines_dropped').v, round * 2)
    }
    t.equal(errors.length, 1)
    t.match(errors[0], /cannot write the access log \/dev\/full: ENOSPC/)
    clock.advance(60_000)
    lease.write('c\n')
    await sinks.close()
    t.equal(errors.length, 2)
    t.equal(metrics.counter('access_logs.lines_dropped').v, 7)
    t.equal(clock.pending, 0)
  },
)

t.test(
  'a pipe that nobody empties holds bounded memory, never blocks, and gets whole lines when it is read',
  async (t) => {
    const { sinks, clock, metrics } = fixture({ closeDeadlineMs: 3_000 })
    const path = join(t.testdir(), 'fifo')
    t.equal(spawnSync('mkfifo', [path]).status, 0)
    t.throws(() => sinks.open({ kind: 'file', path }), { code: 'ENXIO' }, 'no reader: an error, not a hang')
    const reader = openSync(path, constants.O_RDONLY | constants.O_NONBLOCK)
    const lease = sinks.open({ kind: 'file', path })
    const dropped = metrics.counter('access_logs.lines_dropped')
    const line = `${'z'.repeat(999)}\n`
    for (let i = 0; i < 3_000; i++) lease.write(line)
    t.ok(dropped.v > 1_800 && dropped.v < 2_000, `${dropped.v} of 3000 lines dropped: 1 MiB and one batch are held`)
    await until(() => clock.nextInMs === 5)

    const buffer = Buffer.alloc(64 * 1024)
    let read = ''
    const take = (): void => {
      try {
        read += buffer.toString('utf8', 0, readSync(reader, buffer))
      } catch (error) {
        if ((error as NodeJS.ErrnoException).code !== 'EAGAIN') throw error
      }
    }
    while (read.length < 200_000) {
      take()
      await clock.advanceAsync(5)
    }
    // Filled again: closing waits for its deadline and no longer.
    await until(() => clock.nextInMs !== undefined && clock.nextInMs <= 5)
    const closing = sinks.close()
    await clock.advanceAsync(3_000)
    await closing
    // A write that was under way at the deadline settles its lines when it comes back.
    await until(() => {
      take()
      return read.length / line.length + dropped.v >= 3_000
    })
    closeSync(reader)
    t.equal(clock.pending, 0)
    t.equal(read.length % line.length, 0, 'whole lines only')
    t.equal(read.length / line.length + dropped.v, 3_000, 'every line arrived or was counted')
  },
)

t.test('a pipe whose reader has gone is given up, until it is opened again', async (t) => {
  const { sinks, clock, metrics, errors } = fixture()
  const path = join(t.testdir(), 'fifo')
  t.equal(spawnSync('mkfifo', [path]).status, 0)
  const reader = openSync(path, constants.O_RDONLY | constants.O_NONBLOCK)
  const lease = sinks.open({ kind: 'file', path })
  closeSync(reader)
  const dropped = metrics.counter('access_logs.lines_dropped')
  lease.write('a\n')
  clock.advance(1_000)
  await until(() => metrics.counter('filesystem.write_failed').v === 1)
  lease.write('b\n')
  t.equal(clock.pending, 0, 'not even tried')
  t.equal(dropped.v, 2)
  t.match(errors, [/EPIPE/])

  const again = openSync(path, constants.O_RDONLY | constants.O_NONBLOCK)
  sinks.reopen()
  lease.write('c\n')
  await sinks.close()
  const buffer = Buffer.alloc(10)
  t.equal(buffer.toString('utf8', 0, readSync(again, buffer)), 'c\n')
  closeSync(again)
  t.equal(dropped.v, 2)
})

t.test(
  'standard output: lines arrive in order, once per turn, and a closed reader does not end the process',
  async (t) => {
    const module = (path: string): string =>
      JSON.stringify(fileURLToPath(new URL(`../../lib/telemetry/${path}`, import.meta.url)))
    const script = `
    import { MetricsStore } from ${module('metrics.ts')}
    import { createLog } from ${module('log.ts')}
    import { AccessLogSinks } from ${module('sinks/registry.ts')}
    const metrics = new MetricsStore()
    const log = createLog({ level: 'error' })
    const sinks = new AccessLogSinks({ log, metrics })
    const lease = sinks.open({ kind: 'stdout' })
    const alias = sinks.open({ kind: 'file', path: '/dev/stdout' })
    sinks.reopen()
    for (let i = 0; i < 500; i++) { lease.write('line ' + i + '\\n'); alias.write('alias ' + i + '\\n') }
    lease[Symbol.dispose]()
    alias.write('end\\n')
    if (process.argv.includes('--epipe')) {
      process.stdin.once('data', () => {
        alias.write('lost\\n')
        setImmediate(() => setImmediate(async () => {
          await sinks.close()
          log.error('done', { dropped: metrics.counter('access_logs.lines_dropped').v })
          log.flush()
          process.exit(7)
        }))
      })
    } else await sinks.close()
  `
    const run = (...args: string[]): ReturnType<typeof spawn> =>
      spawn(process.execPath, ['--input-type=module', '--eval', script, '--', ...args], { stdio: 'pipe' })
    const child = run()
    let output = ''
    child.stdout?.on('data', (chunk: Buffer) => (output += chunk))
    const [code] = await once(child, 'close')
    t.equal(code, 0)
    const expected = Array.from({ length: 500 }, (_, i) => `line ${i}\nalias ${i}\n`).join('')
    t.equal(output, `${expected}end\n`)

    const broken = run('--epipe')
    let complaints = ''
    broken.stderr?.on('data', (chunk: Buffer) => (complaints += chunk))
    broken.stdout?.once('data', () => {
      broken.stdout?.destroy()
      broken.stdout?.once('close', () => broken.stdin?.end('go'))
    })
    const [exit] = await once(broken, 'close')
    t.equal(exit, 7)
    t.match(complaints, /cannot write the access log \/dev\/stdout: EPIPE/)
    t.match(complaints, /"msg":"done"/)
  },
)

t.test('the application log writes JSON lines at its level, which can change', async (t) => {
  const lines: string[] = []
  const log = createLog({ level: 'info', destination: { write: (line) => void lines.push(line) } })
  log.debug('hidden')
  log.info('started', { port: 80, text: 'a\n"b"' })
  log.setLevel('error')
  t.equal(log.level, 'error')
  log.warn('hidden')
  log.error('failed')
  log.setLevel('debug')
  log.debug('shown', { err: new Error('why') })
  log.flush()
  t.same(
    lines.map((line) => JSON.parse(line).msg),
    ['started', 'failed', 'shown'],
  )
  t.ok(lines.every((line) => line.indexOf('\n') === line.length - 1))
  t.match(JSON.parse(lines[0]), { level: 'info', pid: process.pid, port: 80, text: 'a\n"b"', time: /^\d{4}-.*Z$/ })
  t.match(JSON.parse(lines[2]), { level: 'debug', err: { message: 'why' } })
  t.throws(() => log.setLevel('loud'), /unknown log level "loud"/)
  t.throws(() => createLog({ level: 'warning' }), RangeError)
})
