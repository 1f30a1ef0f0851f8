import t from 'tap'
import { type OneResource, validateConfig, validateResource } from '../../lib/config/validate.ts'
import { ROUTER_TYPE } from '../../lib/router/router.ts'
import { assignment, Parts } from '../support/live-gateway.ts'

const parts = new Parts()
const options = { isTerminal: (type: string) => type === ROUTER_TYPE }

function problems(one: OneResource, clusters?: ReadonlySet<string>): string[] {
  return validateResource(one, options, clusters).map(String)
}

t.test('one resource is checked by itself', async (t) => {
  const table = parts.forwarding('r', 'web')
  const scoped = (keys: readonly (readonly string[])[]) =>
    parts.listener('main', {
      scopedRoutes: {
        name: 's',
        key: [{ header: 'x-a', elementSeparator: '', element: { kind: 'index', index: 0 } }],
        scopes: keys.map((key, i) => ({ name: `s${i}`, key, routeTable: 'r' })),
      },
    })
  const listener = (resource: ReturnType<typeof parts.listener>): OneResource => ({ kind: 'listeners', resource })
  t.same(problems(listener(parts.listener('main', { routeTable: 'r' }))), [])
  t.same(problems(listener(scoped([['a'], ['b']]))), [])
  t.match(problems(listener(scoped([['a'], ['a']]))), [/is the key of scope "s0" already/])
  t.match(problems(listener(scoped([['a', 'b']]))), [/has 2 parts, and keys are made of 1/])
  t.match(problems(listener(parts.listener('main', {}))), [/one of routes, routeTable and scopedRoutes is required/])
  t.match(problems(listener(parts.listener('main', { routeTable: 'r', routes: table }))), [/one of routes/])
  const cluster = parts.cluster('web')
  t.same(problems({ kind: 'clusters', resource: cluster }), [])
  t.match(problems({ kind: 'clusters', resource: { ...cluster, assignment: '' } }), [/^assignment: is required/])
  t.match(problems({ kind: 'clusters', resource: { ...cluster, localities: assignment('', 1).localities } }), [
    /^localities: are those of the assignment/,
  ])
  t.same(problems({ kind: 'routeTables', resource: { ...table, validateClusters: true } }), [])
  t.match(problems({ kind: 'routeTables', resource: { ...table, validateClusters: true } }, new Set(['wbe'])), [
    /unknown cluster "web"/,
  ])
  t.same(problems({ kind: 'assignments', resource: assignment('a', 80) }), [])
  t.match(problems({ kind: 'assignments', resource: assignment('', 0) }), [/^name: /, /port 0 cannot be connected to/])
  const [group] = assignment('a', 80).localities
  const named = { ...group.endpoints[0], address: { kind: 'ip', host: 'a.test', port: 1 } as const }
  t.match(problems({ kind: 'assignments', resource: { name: 'a', localities: [{ ...group, endpoints: [named] }] } }), [
    /malformed IP address "a.test"/,
  ])
  t.match(problems({ kind: 'secrets', resource: { name: 's', value: '?' } }), [/^value: is not base64/])
})

t.test('names of route tables, assignments and secrets are unique', async (t) => {
  const config = {
    node: { id: '', cluster: '' },
    listeners: [],
    clusters: [],
    runtime: {},
    ignored: [],
    routeTables: [parts.saying('r', 'a'), parts.saying('r', 'b')],
    assignments: [assignment('a', 1), assignment('a', 2)],
    secrets: [
      { name: 's', value: '' },
      { name: 's', value: '' },
    ],
  }
  t.same(validateConfig(config, options).map(String), [
    'routeTables[1].name: a second route table "r"',
    'assignments[1].name: a second assignment "a"',
    'secrets[1].name: a second secret "s"',
  ])
})
