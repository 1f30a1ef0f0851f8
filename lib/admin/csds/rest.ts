import { ConfigRefused, type Json, type JsonObject } from '../../core/errors.ts'
import { encodeJson } from '../../proto/encode-json.ts'
import { type DumpNode, jsonNode, mapNodes, writeNode } from '../dump/node.ts'
import { Pace } from '../dump/pace.ts'
import type { AdminAnswer, AdminRequest } from '../endpoint.ts'
import { text } from '../endpoint.ts'
import type { SecretSchema } from '../secret-schema.ts'
import { type ClientStatusAnswer, clientStatus, clientStatusRequestJson } from './client-status.ts'

/** POST `/v3/discovery:client_status`: CSDS as proto-JSON; an empty body asks for everything. */
export function clientStatusRest({ backend, body }: AdminRequest, schema: SecretSchema): AdminAnswer {
  let answer: ClientStatusAnswer | undefined
  try {
    const asked = body.length === 0 ? {} : (JSON.parse(body.toString()) as Json)
    answer = clientStatus(backend, schema, clientStatusRequestJson(schema, asked))
  } catch (error) {
    if (!(error instanceof ConfigRefused || error instanceof SyntaxError)) throw error
    return text(`${error.message}\n`, 400)
  }
  const fields: (readonly [string, DumpNode])[] = answer === undefined ? [] : [['config', configNode(schema, answer)]]
  return { status: 200, type: 'application/json', body: writeNode({ kind: 'object', fields }, new Pace()) }
}

function configNode({ registry }: SecretSchema, { node, configs }: ClientStatusAnswer): DumpNode {
  const desc = registry.expect('envoy.service.status.v3.ClientConfig.GenericXdsConfig')
  const nodeDesc = registry.expect('envoy.config.core.v3.Node')
  const items = mapNodes(configs, (config) => jsonNode(() => encodeJson(registry, desc, config) as JsonObject))
  const client: DumpNode = {
    kind: 'object',
    fields: [
      ['node', jsonNode(() => encodeJson(registry, nodeDesc, node))],
      ['generic_xds_configs', { kind: 'list', items }],
    ],
  }
  return { kind: 'list', items: [client] }
}
