import t from 'tap'
import { parseOnDemand } from '../../filters/on-demand/config.ts'
import { onDemand } from '../../filters/on-demand/index.ts'
import type { JsonObject } from '../../lib/core/errors.ts'
import { parseJson, testScope } from '../support/chain-driver.ts'

t.test('what the configuration says of clusters', async (t) => {
  const read = (config: JsonObject) => parseJson(config, parseOnDemand)
  t.same(read({}).value, {})
  t.same(read({ odcds: { source: { ads: {} } } }), {
    value: { clusters: { source: '', timeoutMs: 5_000 } },
    errors: [],
  })
  t.same(read({ odcds: { source: { self: {} }, timeout: '0.5s' } }).value, { clusters: { source: '', timeoutMs: 500 } })
  const mistakes: readonly (readonly [JsonObject, RegExp])[] = [
    [{ odcds: {} }, /source: is required/],
    [{ odcds: { source: {} } }, /ads or self is required/],
    [{ odcds: { source: { ads: {}, self: {} } } }, /ads or self is required/],
    [{ odcds: { source: { path: '/x' } } }, /source\.path: .*ads \(or self\) alone/],
    [{ odcds: { source: { ads: {} }, resources_locator: 'a/b' } }, /resources_locator: "a\/b" must begin with xdstp:/],
    [{ odcds: { source: { ads: {} }, timeout: '-1s' } }, /timeout: must not be negative/],
    [{ odcds: { source: { ads: {} }, other: 1 } }, /other/],
    [{ other: 1 }, /other/],
  ]
  for (const [config, message] of mistakes) t.match(read(config).errors.join('\n'), message, JSON.stringify(config))
})

t.test('where nothing can be had on demand it has no hook', async (t) => {
  t.same(Object.keys(onDemand.compile({}, testScope())), [])
  const demand = { virtualHost: async () => false, cluster: async () => false }
  t.same(Object.keys(onDemand.compile({}, testScope({ demand }))), ['onRequestHeaders'])
})
