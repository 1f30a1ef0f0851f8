import { toBinary } from '@bufbuild/protobuf'
import { readYaml } from '../../lib/config/yaml-value.ts'
import { ConfigError, ConfigRefused, type Json } from '../../lib/core/errors.ts'
import { decodeJson } from '../../lib/proto/decode-json.ts'
import type { ProtoRegistry } from '../../lib/proto/registry.ts'
import type { DiscoveryResponse } from '../protocol/messages.ts'
import { readWholeResponse } from '../protocol/wire.ts'

const RESPONSE = 'envoy.service.discovery.v3.DiscoveryResponse'

/** A `DiscoveryResponse` in ProtoJSON. @throws ConfigRefused with every mistake */
export function readJsonResponse(registry: ProtoRegistry, json: Json): DiscoveryResponse {
  const desc = registry.expect(RESPONSE)
  const { message, errors } = decodeJson(registry, desc, json, '')
  if (message === undefined || errors.length > 0) {
    throw new ConfigRefused(errors.length > 0 ? errors : [new ConfigError('', `must be a ${RESPONSE}`)])
  }
  return readWholeResponse(toBinary(desc, message))
}

/**
 * A `DiscoveryResponse` in a file: by the end of its name binary (`.pb`) or, whatever else it is called, YAML, of which JSON
 * is a part.
 *
 * @throws ConfigRefused with every mistake and its place
 */
export function readResponseFile(registry: ProtoRegistry, bytes: Buffer, path: string): DiscoveryResponse {
  if (path.endsWith('.pb_text')) {
    throw new ConfigRefused([new ConfigError('', `${path}: the text format of protobuf is not read: use YAML or JSON`)])
  }
  if (!path.endsWith('.pb')) return readJsonResponse(registry, readText(bytes, path))
  try {
    return readWholeResponse(bytes)
  } catch (error) {
    const why = error instanceof Error ? error.message : String(error)
    throw new ConfigRefused([new ConfigError('', `${path}: is no ${RESPONSE}: ${why}`)])
  }
}

/** JSON by its own parser where it is JSON: ten times as fast, and large files are. */
function readText(bytes: Buffer, path: string): Json {
  const text = bytes.toString('utf8')
  if (path.endsWith('.json')) {
    try {
      return JSON.parse(text) as Json
    } catch {
      // The other reader says where the mistake is.
    }
  }
  return readYaml(text, path)
}
