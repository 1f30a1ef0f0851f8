import type { ConfigSources } from '../../lib/core/config-sources.ts'
import type { FieldReader } from '../../lib/core/field-reader.ts'
import { sourceOf } from './authorities.ts'
import type { EnvoyContext } from './context.ts'
import { type References, referenceKey } from './references.ts'
import { translateSecretReference } from './tls/secret-reference.ts'

/** What filters of a resource may have delivered; undefined where nothing can be. */
export function configSources(context: EnvoyContext, within = ''): ConfigSources | undefined {
  const { references } = context
  return references && new FilterSources(context, references, within)
}

class FilterSources implements ConfigSources {
  readonly #context: EnvoyContext
  readonly #references: References
  readonly within: string

  constructor(context: EnvoyContext, references: References, within: string) {
    this.#context = context
    this.#references = references
    this.within = within
  }

  get localCluster(): string | undefined {
    return this.#context.clusterDefaults?.localClusterName
  }

  demandedClusters(reader: FieldReader | undefined, locator: string): string | undefined {
    const source = sourceOf(locator, reader, this.#context)
    if (source === undefined) return undefined
    if (source.source.kind === 'file') reader?.error(undefined, 'clusters cannot be asked for where files are: use ads')
    const key = locator === '' ? source.key : referenceKey(locator, source)
    this.#references.add({ kind: 'demanded-clusters', name: locator, key, source })
    return key
  }

  secret(reader: FieldReader | undefined): string | undefined {
    const secret = translateSecretReference(reader, this.#context, 'generic')
    if (secret === undefined) return undefined
    return secret.kind === 'delivered' ? secret.key : secret.secret.name
  }
}
