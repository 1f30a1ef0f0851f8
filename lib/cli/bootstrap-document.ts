import { type ParsedConfig, parseConfigText, readConfigFile } from '../config/parse.ts'
import type { Json, JsonObject } from '../core/errors.ts'
import type { ProtoRegistry } from '../proto/registry.ts'
import { mergeBootstraps } from './merge-bootstrap.ts'

/** Where a bootstrap is written. */
export interface BootstrapSource {
  /** '' where there is no file. */
  readonly configPath: string
  /** Merged over the file; '' for nothing. */
  readonly configYaml: string
  /** Each takes the place of what the bootstrap says about the node, unless it is ''. As Envoy's flags of these names. */
  readonly serviceNode: string
  readonly serviceCluster: string
  readonly serviceZone: string
}

/**
 * The document that these flags stand for; undefined where they name none.
 *
 * @throws ConfigRefused for what cannot be read or parsed
 */
export function readDocument(source: BootstrapSource, registry: ProtoRegistry): ParsedConfig | undefined {
  const { configPath, configYaml } = source
  const file = configPath === '' ? undefined : readConfigFile(configPath)
  const text = configYaml === '' ? undefined : parseConfigText(configYaml, '--config-yaml')
  if (file === undefined) return text && withNode(text, source)
  return withNode(text === undefined ? file : mergeBootstraps(file, text, registry), source)
}

/** The same with what the flags say about the node. */
export function withNode(
  parsed: ParsedConfig,
  source: Omit<BootstrapSource, 'configPath' | 'configYaml'>,
): ParsedConfig {
  const { serviceNode, serviceCluster, serviceZone } = source
  const { value } = parsed
  if (!isObject(value) || serviceNode + serviceCluster + serviceZone === '') return parsed
  const node = isObject(value.node) ? value.node : {}
  const locality = isObject(node.locality) ? node.locality : {}
  const next: JsonObject = {
    ...node,
    ...(serviceNode !== '' && { id: serviceNode }),
    ...(serviceCluster !== '' && { cluster: serviceCluster }),
    ...(serviceZone !== '' && { locality: { ...locality, zone: serviceZone } }),
  }
  return { value: { ...value, node: next }, place: (path) => parsed.place(path) }
}

function isObject(value: Json | undefined): value is JsonObject {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
}
