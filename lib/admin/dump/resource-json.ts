import { fromBinary } from '@bufbuild/protobuf'
import type { ClientStatus, ResourceFailure, ResourceStatus, ResourceVersion } from '../../config/status.ts'
import type { Json, JsonObject } from '../../core/errors.ts'
import { encodeJson } from '../../proto/encode-json.ts'
import { redactMessage } from '../redact-message.ts'
import { REDACTED_BYTES } from '../secret-names.ts'
import type { SecretSchema } from '../secret-schema.ts'

export const TYPE_PREFIX = 'type.googleapis.com/'

/** Envoy's `ClientResourceStatus`, by what we call it. */
export const CLIENT_STATUS: Readonly<Record<ClientStatus, string>> = Object.freeze({
  requested: 'REQUESTED',
  'does-not-exist': 'DOES_NOT_EXIST',
  acked: 'ACKED',
  nacked: 'NACKED',
  timeout: 'TIMEOUT',
})

/**
 * A resource as proto-JSON inside an Any, without its secrets. Of a type that is not known the bytes stay; of one that is
 * known and does not decode they do not, since there is no telling what is secret in them.
 */
export function anyJson(schema: SecretSchema, typeName: string, bytes: Uint8Array): JsonObject {
  const type = { '@type': TYPE_PREFIX + typeName }
  const desc = schema.registry.message(typeName)
  if (desc === undefined) return { ...type, value: Buffer.from(bytes).toString('base64') }
  try {
    const message = fromBinary(desc, bytes)
    redactMessage(schema, desc, message)
    return { ...type, ...(encodeJson(schema.registry, desc, message) as JsonObject) }
  } catch {
    return { ...type, value: REDACTED_BYTES }
  }
}

/** RFC 3339, as proto-JSON has times. */
export function timeJson(epochMs: number): string {
  return new Date(epochMs).toISOString()
}

/** What is said of every version: `version_info`, the resource under the name that it has there, `last_updated`. */
export function versionJson(
  schema: SecretSchema,
  typeName: string,
  { version, field }: { readonly version: ResourceVersion; readonly field: string },
): JsonObject {
  return {
    ...(version.version !== '' && { version_info: version.version }),
    [field]: anyJson(schema, typeName, version.bytes),
    last_updated: timeJson(version.updatedMs),
  }
}

/** `error_state` and `client_status` of a resource. */
export function conditionJson(schema: SecretSchema, resource: ResourceStatus): JsonObject {
  const { failure, typeName } = resource
  const out: JsonObject = {}
  if (failure !== undefined) out.error_state = failureJson(schema, typeName, failure)
  out.client_status = CLIENT_STATUS[resource.client]
  return out
}

/** `envoy.admin.v3.UpdateFailureState` */
export function failureJson(schema: SecretSchema, typeName: string, failure: ResourceFailure): JsonObject {
  const out: Record<string, Json> = {}
  if (failure.bytes !== undefined) out.failed_configuration = anyJson(schema, typeName, failure.bytes)
  out.last_update_attempt = timeJson(failure.attemptedMs)
  out.details = failureDetails(failure)
  if (failure.version !== '') out.version_info = failure.version
  return out
}

export function failureDetails({ errors }: ResourceFailure): string {
  return errors.map((error) => error.toString()).join('; ')
}
