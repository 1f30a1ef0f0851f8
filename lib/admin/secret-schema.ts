import {
  type DescExtension,
  type DescField,
  type DescMessage,
  getOption,
  hasOption,
  ScalarType,
} from '@bufbuild/protobuf'
import type { ProtoRegistry } from '../proto/registry.ts'
import { isSecretName, mayHoldSecret } from './secret-names.ts'

const DATA_SOURCE = 'envoy.config.core.v3.DataSource'

/** A field that is looked at when a message is redacted. */
export interface SecretField {
  readonly field: DescField
  /** All of it is secret; false: something inside may be. */
  readonly secret: boolean
}

/** Which fields of a message name a header, and which have its value, or what that is compared with. */
export interface HeaderFields {
  readonly name: string
  isValue(field: DescField): boolean
}

/** Ranges and flags give no credentials away. */
const HEADERS: ReadonlyMap<string, HeaderFields> = new Map([
  ['envoy.config.core.v3.HeaderValue', { name: 'key', isValue: ({ name }) => name !== 'key' }],
  [
    'envoy.config.route.v3.HeaderMatcher',
    {
      name: 'name',
      isValue: ({ name, scalar }) => name !== 'name' && name !== 'range_match' && scalar !== ScalarType.BOOL,
    },
  ],
])

/**
 * Which fields of which messages are secret: those that Envoy's API marks `(udpa.annotations.sensitive)`, and those whose
 * names say so although nobody marked them.
 */
export class SecretSchema {
  readonly registry: ProtoRegistry
  readonly #sensitive: DescExtension | undefined
  readonly #plans = new Map<DescMessage, readonly SecretField[]>()

  constructor(registry: ProtoRegistry) {
    this.registry = registry
    this.#sensitive = registry.files.getExtension('udpa.annotations.sensitive')
  }

  /** The fields of a message that are secret or are messages themselves, in the order of the schema. */
  plan(desc: DescMessage): readonly SecretField[] {
    let plan = this.#plans.get(desc)
    if (plan === undefined) {
      plan = desc.fields.flatMap((field): SecretField[] => {
        if (this.isSecret(field)) return [{ field, secret: true }]
        return field.message === undefined ? [] : [{ field, secret: false }]
      })
      this.#plans.set(desc, plan)
    }
    return plan
  }

  /** Of messages that are about one header. */
  headerOf(desc: DescMessage): HeaderFields | undefined {
    return HEADERS.get(desc.typeName)
  }

  isSecret(field: DescField): boolean {
    if (this.#sensitive !== undefined && hasOption(field, this.#sensitive)) {
      return getOption(field, this.#sensitive) === true
    }
    if (field.message === undefined) return field.enum === undefined && isSecretName(field.name)
    return field.message.typeName === DATA_SOURCE && mayHoldSecret(field.name)
  }
}
