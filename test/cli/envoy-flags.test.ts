import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { availableParallelism, tmpdir } from 'node:os'
import { PassThrough } from 'node:stream'
import type { Test } from 'tap'
import t from 'tap'
import { readDocument } from '../../lib/cli/bootstrap-document.ts'
import { runCommandLine } from '../../lib/cli/command-line.ts'
import { defaultConfig } from '../../lib/cli/default-config.ts'
import { FLAGS_WITHOUT_EFFECT } from '../../lib/cli/envoy-flags.ts'
import { mergeBootstraps } from '../../lib/cli/merge-bootstrap.ts'
import { type RunWish, runCommand } from '../../lib/cli/run-command.ts'
import { parseConfigText } from '../../lib/config/parse.ts'
import { createProtoRegistry } from '../../lib/proto/registry.ts'

const registry = createProtoRegistry()

interface Outcome {
  readonly status: number
  readonly out: string
  readonly err: string
}

async function headgate(...args: string[]): Promise<Outcome> {
  const [stdout, stderr] = [new PassThrough(), new PassThrough()]
  const text = (stream: PassThrough): Promise<string> =>
    stream.setEncoding('utf8').reduce((all: string, s: string) => all + s, '')
  const texts = Promise.all([text(stdout), text(stderr)])
  const status = await runCommandLine(args, { stdout, stderr } as unknown as NodeJS.Process)
  stdout.end()
  stderr.end()
  const [out, err] = await texts
  return { status, out, err }
}

/** What a command line asks for, without doing it; `bare`: as Envoy is called. */
async function wishOf(bare: boolean, ...args: string[]): Promise<RunWish> {
  let found: RunWish | undefined
  const command = runCommand(bare, async (wish) => {
    found = wish
  }).exitOverride()
  await command.parseAsync(args, { from: 'user' })
  if (found === undefined) throw new Error('nothing was asked for')
  return found
}

async function optionsOf(...args: string[]): Promise<Extract<RunWish, { options: unknown }>['options']> {
  const wish = await wishOf(true, '-c', 'x', ...args)
  if (!('options' in wish)) throw new Error(wish.kind)
  return wish.options
}

function file(t: Test, text: string): string {
  const dir = mkdtempSync(`${tmpdir()}/hg-`)
  t.teardown(() => rmSync(dir, { recursive: true, force: true }))
  writeFileSync(`${dir}/bootstrap.yaml`, text)
  return `${dir}/bootstrap.yaml`
}

t.test('flags that launchers of Envoy pass mean what they mean there', async (t) => {
  const table: [string[], object][] = [
    [[], { configPath: 'x', workers: availableParallelism(), drainTimeS: 25, logLevel: 'info', unknownFields: '' }],
    [['--concurrency', '0'], { workers: 1 }],
    [['--concurrency', '3'], { workers: 3 }],
    [['--workers', '3'], { workers: 3 }],
    [['--config-path', 'x'], { configPath: 'x' }],
    [['--config-yaml', '{}'], { configYaml: '{}' }],
    [['-l', 'critical'], { logLevel: 'fatal' }],
    [['--log-level', 'off'], { logLevel: 'silent' }],
    [['-l', 'warning'], { logLevel: 'warn' }],
    [['--service-node', 'n', '--service-cluster', 'c'], { serviceNode: 'n', serviceCluster: 'c', serviceZone: '' }],
    [['--service-zone', 'z'], { serviceZone: 'z' }],
    [['--drain-time-s', '60'], { drainTimeS: 60, withoutEffect: [] }],
    [['--admin-address-path', '/run/a'], { adminAddressPath: '/run/a' }],
    [['--state-dir', '/var/lib/x'], { stateDir: '/var/lib/x' }],
    [['--base-id-path', '/run/b'], { baseIdPath: '/run/b' }],
    [['--reject-unknown-dynamic-fields'], { unknownFields: 'reject' }],
    [['--ignore-unknown-dynamic-fields'], { unknownFields: 'ignore' }],
    [['--mode', 'init_only'], { initOnly: true }],
    [['--bootstrap-version', '3'], { withoutEffect: [] }],
    [['--disable-hot-restart', '--base-id', '7'], { withoutEffect: [] }],
    [['--log-format', '%v', '--cpuset-threads'], { withoutEffect: ['--cpuset-threads', '--log-format'] }],
    [['--stats-tag', 'a:b', '--stats-tag', 'c:d'], { commandLine: { stats_tag: 'a:b,c:d' } }],
  ]
  for (const [args, wanted] of table) t.match(await optionsOf(...args), wanted, args.join(' '))
  t.match(await wishOf(false, '-c', 'x'), { kind: 'run', options: { workers: 1 } }, 'by the command: as ever')
  t.match(await wishOf(true, '-c', 'x', '--mode', 'validate'), { kind: 'validate' })
  t.strictSame((await optionsOf('--concurrency', '2', '-l', 'debug')).commandLine, {
    config: 'x',
    concurrency: '2',
    log_level: 'debug',
  })
})

t.test('every flag without effect is taken, and told but for those that ask for nothing', async (t) => {
  for (const { flags, choices } of FLAGS_WITHOUT_EFFECT) {
    const [name, value] = flags.split(' ')
    const { withoutEffect } = await optionsOf(name, ...(value === undefined ? [] : [choices?.[0] ?? '1']))
    const silent = ['--disable-hot-restart', '--base-id', '--use-dynamic-base-id'].includes(name)
    t.strictSame(withoutEffect, silent ? [] : [name], name)
  }
})

t.test('a command line that Envoy would refuse is one clear message and status 2', async (t) => {
  const wrong: [string[], RegExp][] = [
    [['--service-node', 'a'], /^error: give --config-path or --config-yaml\n$/],
    [['-c', 'x', '--no-such-flag'], /^error: unknown option '--no-such-flag'\n/],
    [['-c', 'x', '--config-path', 'y'], /^error: give either --config or --config-path\n$/],
    [['-c', 'x', '--mode', 'sing'], /argument 'sing' is invalid. Allowed choices are serve, validate, init_only/],
    [['-c', 'x', '--bootstrap-version', '2'], /'2' is invalid/],
    [['-c', 'x', '--concurrency', 'auto'], /Must be a whole number from 0 to 256/],
    [['-c', 'x', '--drain-strategy', 'never'], /Allowed choices are gradual, immediate/],
    [
      ['-c', 'x', '--reject-unknown-dynamic-fields', '--ignore-unknown-dynamic-fields'],
      /^error: give either --reject-unknown-dynamic-fields or --ignore/,
    ],
    [['run', '--mode', 'validate'], /^error: give --config-path or --config-yaml\n$/],
  ]
  for (const [args, message] of wrong)
    t.match(await headgate(...args), { status: 2, out: '', err: message }, args.join(' '))
})

t.test('questions that launchers ask are answered, and nothing runs', async (t) => {
  t.match(await headgate('-c', 'x', '--version'), { status: 0, out: /^\d+\.\d+\.\d+\n$/ })
  t.match(await headgate('--hot-restart-version'), { status: 0, out: 'disabled\n' })
})

t.test('--mode validate judges the bootstrap as it would be run', async (t) => {
  const path = file(t, defaultConfig(1))
  t.strictSame(await headgate('-c', path, '--mode', 'validate'), { status: 0, out: 'configuration OK\n', err: '' })
  const yaml = 'static_resources: { clusters: [{ name: a, connect_timeout: soon }] }'
  const bad = await headgate('--config-path', path, '--config-yaml', yaml, '--mode', 'validate')
  t.equal(bad.status, 1)
  t.match(bad.err, /^--config-yaml:1:\d+: static_resources\.clusters\[1\]\.connect_timeout: /, 'where it was written')
  const alone = await headgate('--config-yaml', 'node: { id: a', '--mode', 'validate')
  t.match(alone, { status: 1, err: /^--config-yaml:1:/ })
  const live = await headgate(
    '--config-yaml',
    `dynamic_resources: { lds_config: { path_config_source: { path: /no/such } } }`,
    '--mode',
    'validate',
  )
  t.match(live, { status: 0, out: 'configuration OK\n' })
})

t.test('--config-yaml is merged over the file as protobuf merges messages', async (t) => {
  const merge = (first: string, second: string): unknown =>
    mergeBootstraps(parseConfigText(first, 'first'), parseConfigText(second, 'second'), registry).value
  t.strictSame(
    merge('node: { id: a, cluster: c, metadata: { x: { y: 1 }, z: 1 } }', 'node: { id: b, metadata: { x: { q: 2 } } }'),
    { node: { id: 'b', cluster: 'c', metadata: { x: { q: 2 }, z: 1 } } },
    'single values, messages, entries of a struct',
  )
  t.strictSame(
    merge('static_resources: { clusters: [{ name: a }] }', 'staticResources: { clusters: [{ name: b }] }'),
    { static_resources: { clusters: [{ name: 'a' }, { name: 'b' }] } },
    'lists, whatever the fields are spelt like',
  )
  t.strictSame(
    merge(
      'admin: { address: { socket_address: { address: a, port_value: 1 } } }',
      'admin: { address: { pipe: { path: p } } }',
    ),
    { admin: { address: { pipe: { path: 'p' } } } },
    'another member of a oneof takes the place of the first',
  )
  t.strictSame(
    merge(
      'admin: { access_log: [{ name: a, typed_config: { "@type": b, c: 1 } }] }\nstats_flush_interval: 1s',
      'stats_flush_interval: 2s\nnode: null',
    ),
    {
      admin: { access_log: [{ name: 'a', typed_config: { '@type': 'b', c: 1 } }] },
      stats_flush_interval: '2s',
      node: null,
    },
  )
  t.strictSame(merge('node: { id: a }', 'node: null'), { node: { id: 'a' } })
  t.strictSame(merge('{}', 'no_such: 1'), { no_such: 1 }, 'for whoever reads it to refuse')
  const merged = mergeBootstraps(
    parseConfigText('static_resources:\n  clusters:\n  - name: a\n', 'first'),
    parseConfigText('node: { id: x }\nstatic_resources:\n  clusters:\n  - name: b\n', 'second'),
    registry,
  )
  t.strictSame(merged.place('static_resources.clusters[0].name'), { file: 'first', line: 3, column: 5 })
  t.strictSame(merged.place('static_resources.clusters[1].name'), { file: 'second', line: 4, column: 5 })
  t.match(merged.place('node.id'), { file: 'second', line: 1 })
})

t.test('--service-node, --service-cluster and --service-zone win over the bootstrap', async (t) => {
  const source = { configPath: '', serviceNode: 'n', serviceCluster: 'c', serviceZone: 'z' }
  const configYaml = 'node: { id: a, locality: { region: r, zone: x }, metadata: { m: 1 } }'
  t.strictSame(readDocument({ ...source, configYaml }, registry)?.value, {
    node: { id: 'n', cluster: 'c', locality: { region: 'r', zone: 'z' }, metadata: { m: 1 } },
  })
  t.strictSame(
    readDocument({ ...source, serviceZone: '', configYaml: 'admin: {}' }, registry)?.value,
    { admin: {}, node: { id: 'n', cluster: 'c' } },
    'where there was no node',
  )
  t.equal(readDocument({ ...source, configYaml: '' }, registry), undefined)
})
