import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { PassThrough } from 'node:stream'
import type { Test } from 'tap'
import t from 'tap'
import { runCommandLine } from '../../lib/cli/command-line.ts'
import { defaultConfig } from '../../lib/cli/default-config.ts'
import { readLines } from '../../lib/cli/read-lines.ts'
import { parseAddress } from '../../lib/cli/settings.ts'
import { standardFilters } from '../../lib/cli/standard-filters.ts'

interface Outcome {
  readonly status: number
  readonly out: string
  readonly err: string
}

/** Runs a command that starts no process, in this one. */
async function headgate(...args: string[]): Promise<Outcome> {
  const stdout = new PassThrough()
  const stderr = new PassThrough()
  const text = (stream: PassThrough): Promise<string> =>
    stream.setEncoding('utf8').reduce((all: string, s: string) => all + s, '')
  const texts = Promise.all([text(stdout), text(stderr)])
  const status = await runCommandLine(args, { stdout, stderr } as unknown as NodeJS.Process)
  stdout.end()
  stderr.end()
  const [out, err] = await texts
  return { status, out, err }
}

function directory(t: Test, files: Readonly<Record<string, string | Buffer>>): string {
  const dir = mkdtempSync(`${tmpdir()}/hg-`)
  t.teardown(() => rmSync(dir, { recursive: true, force: true }))
  for (const [name, content] of Object.entries(files)) writeFileSync(`${dir}/${name}`, content)
  return dir
}

t.test('version and help', async (t) => {
  t.match(await headgate('version'), { status: 0, out: /^headgate\/\d+\.\d+\.\d+ node\/\d+/, err: '' })
  t.match(await headgate('--version'), { status: 0, out: /^\d+\.\d+\.\d+\n$/ })
  t.match(await headgate('--help'), { status: 0, out: /validate/ })
  t.match(await headgate('run', '--help'), { status: 0, out: /--drain-time-s/ })
})

t.test('a wrong command line is one clear message and status 2', async (t) => {
  const wrong: [string[], RegExp][] = [
    [[], /Usage: headgate/],
    [['serve'], /^error: unknown command 'serve'\n/],
    [['run', '--worker', '2'], /^error: unknown option '--worker'\n\(Did you mean --workers\?\)\n$/],
    [
      ['run', '--workers', '0'],
      /^error: option '--workers <n>' argument '0' is invalid\. Must be auto or a whole number from 1 to 256\.\n$/,
    ],
    [['run', '--workers', '1.5'], /'1\.5' is invalid/],
    [['run', '--drain-time-s', '-1'], /'-1' is invalid/],
    [['run', '--log-level', 'loud'], /Must be one of trace, debug/],
    [['run', '--admin-address', 'localhost'], /Must be like 127\.0\.0\.1:15000/],
    [['run', 'extra'], /too many arguments/],
    [['run', '--config'], /argument missing/],
    [['validate'], /^error: give either --config or --resources\n$/],
    [['validate', '--config', 'a', '--resources', 'b'], /either/],
  ]
  for (const [args, message] of wrong)
    t.match(await headgate(...args), { status: 2, out: '', err: message }, args.join(' '))
})

t.test('addresses on the command line', async (t) => {
  t.strictSame(parseAddress('127.0.0.1:15000'), { kind: 'ip', host: '127.0.0.1', port: 15000 })
  t.strictSame(parseAddress('[::1]:0'), { kind: 'ip', host: '::1', port: 0 })
  t.strictSame(parseAddress('/run/x.sock'), { kind: 'pipe', path: '/run/x.sock' })
  t.strictSame(parseAddress('@x'), { kind: 'pipe', path: '@x' })
  for (const bad of ['', '/', ':80', 'host:80', '1.2.3.4', '1.2.3.4:65536', '::1:80', '[1.2.3.4]:80', '1.2.3:1']) {
    t.equal(parseAddress(bad), undefined, bad)
  }
})

t.test('validate --config: OK, and a warning for what has no effect', async (t) => {
  const dir = directory(t, {
    'good.yaml': defaultConfig(8080),
    'ignored.yaml': `${defaultConfig(8080)}stats_flush_interval: 5s\n`,
  })
  t.strictSame(await headgate('validate', '--config', `${dir}/good.yaml`), {
    status: 0,
    out: 'configuration OK\n',
    err: '',
  })
  const lines = defaultConfig(8080).split('\n').length
  t.strictSame(await headgate('validate', '-c', `${dir}/ignored.yaml`), {
    status: 0,
    out: 'configuration OK\n',
    err: `warning: ${dir}/ignored.yaml:${lines}:1: stats_flush_interval: is set and has no effect here\n`,
  })
})

t.test('the reference binary has the standard filters', async (t) => {
  t.strictSame(
    standardFilters().map((filter) => filter.name),
    [
      'envoy.filters.http.adaptive_concurrency',
      'envoy.filters.http.admission_control',
      'envoy.filters.http.bandwidth_limit',
      'envoy.filters.http.buffer',
      'envoy.filters.http.cors',
      'envoy.filters.http.dynamic_forward_proxy',
      'envoy.filters.http.grpc_http1_bridge',
      'envoy.filters.http.grpc_stats',
      'envoy.filters.http.grpc_web',
      'envoy.filters.http.header_mutation',
      'envoy.filters.http.health_check',
      'envoy.filters.http.local_ratelimit',
      'envoy.filters.http.on_demand',
      'envoy.filters.http.router',
      'envoy.filters.http.stateful_session',
    ],
  )
})

t.test('validate --config: every mistake with its place, on a line of its own', async (t) => {
  const dir = directory(t, {
    'bad.yaml': 'static_resources:\n  listenerz: []\n  clusters:\n  - name: ""\n    connect_timeout: soon\n',
    'syntax.yaml': 'a: [1\n',
    'empty.yaml': '',
    'binary.yaml': Buffer.from([0xff, 0xfe, 0x00]),
  })
  const bad = await headgate('validate', '--config', `${dir}/bad.yaml`)
  t.equal(bad.status, 1)
  t.equal(bad.out, '')
  const lines = bad.err.trimEnd().split('\n')
  t.equal(lines.length, 3)
  t.match(lines[0], `${dir}/bad.yaml:2:3: static_resources.listenerz: `)
  t.match(lines[1], `${dir}/bad.yaml:4:5: static_resources.clusters[0].name: `)
  t.match(lines[2], `${dir}/bad.yaml:5:5: static_resources.clusters[0].connect_timeout: `)
  for (const [name, message] of [
    ['syntax.yaml', ':'],
    ['empty.yaml', 'the file is empty'],
    ['binary.yaml', 'is not valid UTF-8'],
    ['missing.yaml', 'cannot be read: ENOENT'],
    ['.', 'cannot be read: EISDIR'],
  ]) {
    const { status, out, err } = await headgate('validate', '--config', `${dir}/${name}`)
    t.match({ status, out }, { status: 1, out: '' })
    t.match(err, `${dir}/${name}:`)
    t.match(err, message)
    t.equal(err.trimEnd().split('\n').length, 1, 'one line')
  }
})

t.test('validate --resources: one answer per line, whatever the line is', async (t) => {
  const cluster = { '@type': 'type.googleapis.com/envoy.config.cluster.v3.Cluster', connect_timeout: '1s' }
  const dir = directory(t, {
    'good.jsonl': `${JSON.stringify({ ...cluster, name: 'a\u2028b' })}\r\n\n${JSON.stringify({ ...cluster, name: 'c' })}`,
    'mixed.jsonl': Buffer.concat([
      Buffer.from(`not json\n${JSON.stringify({ ...cluster, name: 'x', foo: 1 })}\n`),
      Buffer.from([0xff, 0x0a]),
      Buffer.from(`[]\n${JSON.stringify({ '@type': 'type.googleapis.com/no.such.Type' })}\n`),
      Buffer.from(`${JSON.stringify({ ...cluster, name: 'last' })}\n`),
    ]),
    'empty.jsonl': '',
  })
  const good = await headgate('validate', '--resources', `${dir}/good.jsonl`)
  t.match({ status: good.status, err: good.err }, { status: 0, err: '' })
  const names = answers(good.out).map((a) => [a.name, a.result])
  t.strictSame(names, [
    ['a\u2028b', 'accepted'],
    ['c', 'accepted'],
  ])
  const mixed = await headgate('validate', '--resources', `${dir}/mixed.jsonl`)
  t.equal(mixed.status, 1)
  const list = answers(mixed.out)
  t.strictSame(
    list.map((a) => a.result),
    ['refused', 'refused', 'refused', 'refused', 'refused', 'accepted'],
  )
  t.match(list[0].errors, [{ path: '', message: /is not JSON/ }])
  t.match(list[1].errors, [{ path: 'foo' }])
  t.match(list[2].errors, [{ path: '', message: 'is not valid UTF-8' }])
  t.strictSame(Object.keys(list[5]), ['type', 'name', 'result', 'errors', 'ignored'])
  t.strictSame(await headgate('validate', '--resources', `${dir}/empty.jsonl`), { status: 0, out: '', err: '' })
  t.match(await headgate('validate', '--resources', `${dir}/missing`), {
    status: 1,
    out: '',
    err: /cannot be read: ENOENT/,
  })
  t.match(await headgate('validate', '--resources', dir), { status: 1, out: '', err: /cannot be read: EISDIR/ })
})

interface ResourceAnswer {
  readonly name: string
  readonly result: string
  readonly errors: readonly { readonly path: string; readonly message: string }[]
}

function answers(out: string): ResourceAnswer[] {
  return out
    .trimEnd()
    .split('\n')
    .map((line) => JSON.parse(line) as ResourceAnswer)
}

t.test('lines are found whatever the chunks of the file are', async (t) => {
  const lines = ['short', 'é'.repeat(70_000), '', 'x'.repeat(65_536), 'last without an end']
  const dir = directory(t, { file: lines.join('\n') })
  const found: (string | undefined)[] = []
  for await (const line of readLines(`${dir}/file`)) found.push(line)
  t.strictSame(found, lines)
})
