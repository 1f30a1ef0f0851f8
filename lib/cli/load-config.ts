import { readFileSync } from 'node:fs'
import type { FilterParser } from '../../xds-client/envoy/context.ts'
import type { EnvoyLoadContext } from '../../xds-client/envoy/load.ts'
import { loadBootstrap } from '../../xds-client/envoy/load.ts'
import type { LowerFilters } from '../chain/factories.ts'
import type { AnyFilterFactory } from '../chain/registry.ts'
import type { GatewayConfig } from '../config/model.ts'
import type { ParsedConfig } from '../config/parse.ts'
import { parseConfigText, readConfigFile } from '../config/parse.ts'
import { compileTemplateRewrite, templateToRegex } from '../match/template.ts'
import { createProtoRegistry } from '../proto/registry.ts'
import { RuleChecker } from '../proto/rules.ts'
import { checkFormat } from '../telemetry/format.ts'
import { checkTls } from '../tls/check.ts'
import { openPkcs12 } from '../tls/pkcs12.ts'
import { parseTrustBundles } from '../tls/spiffe-bundle.ts'
import { lowerFilters } from './standard-filters.ts'

/** Everything that reading Envoy's resources needs, for the filters that this gateway has. About 100 ms of work. */
export function envoyContext(
  factories: readonly AnyFilterFactory[],
  lower: LowerFilters = lowerFilters(),
): EnvoyLoadContext {
  const registry = createProtoRegistry()
  const filters = new Map<string, FilterParser>()
  for (const factory of factories) for (const typeUrl of factory.typeUrls) filters.set(typeUrl, factory)
  return {
    registry,
    rules: new RuleChecker(registry),
    filters,
    networkFilters: lower.network.byType,
    listenerFilters: lower.listener.byType,
    checks: {
      format: (text) => checkFormat({ kind: 'text', text }).errors[0],
      pathTemplate: (pattern) => complaint(() => templateToRegex(pattern)),
      pathTemplateRewrite: (pattern, rewrite) => complaint(() => compileTemplateRewrite(pattern, rewrite)),
      tls: checkTls,
    },
    tlsFormats: { pkcs12: openPkcs12, trustBundles: parseTrustBundles },
    readFile: (path) => readFileSync(path),
    environment: (name) => process.env[name],
  }
}

/** A configuration without anything that is delivered, and the document it came from, which knows where each field stands. */
export interface LoadedConfig {
  readonly config: GatewayConfig
  readonly parsed: ParsedConfig
}

/** Reads a static Envoy bootstrap from a file. @throws ConfigRefused with every mistake and its place */
export function loadConfigFile(path: string, context: EnvoyLoadContext): LoadedConfig {
  const parsed = readConfigFile(path)
  return { config: loadBootstrap(parsed, context), parsed }
}

/** Reads a static Envoy bootstrap from text; `name` stands for the file in messages. @throws ConfigRefused */
export function loadConfigText(text: string, name: string, context: EnvoyLoadContext): LoadedConfig {
  const parsed = parseConfigText(text, name)
  return { config: loadBootstrap(parsed, context), parsed }
}

function complaint(compile: () => unknown): string | undefined {
  try {
    compile()
    return undefined
  } catch (error) {
    return error instanceof Error ? error.message : String(error)
  }
}
