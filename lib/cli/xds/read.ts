import { readFileSync } from 'node:fs'
import { type EnvoyLoadContext, type LoadedBootstrap, readBootstrap } from '../../../xds-client/envoy/load.ts'
import type { GatewayConfig } from '../../config/model.ts'
import type { ParsedConfig } from '../../config/parse.ts'
import { FileRecorder } from '../../runtime/recorded-files.ts'
import type { BootstrapReading } from './live.ts'

/** Reads a bootstrap, and remembers the files that it names. @throws ConfigRefused */
export function readRecorded(
  parsed: ParsedConfig,
  context: EnvoyLoadContext,
  change: (config: GatewayConfig) => GatewayConfig = (config) => config,
): BootstrapReading {
  const recorder = new FileRecorder()
  const { readFile, watchDirectory } = recorder
  const loaded = readBootstrap(parsed, { ...context, readFile, watchDirectory })
  // Resources that come later have files of their own, which are watched with them.
  const later = { ...loaded.context, readFile: (path: string): Buffer => readFileSync(path), watchDirectory: undefined }
  return {
    loaded: { ...loaded, config: change(loaded.config), context: later },
    files: { files: new Map(recorder.files), directories: new Set(recorder.directories) },
  }
}

/** What of a live configuration is there from the beginning: everything else it publishes itself. */
export function baseOf({ config }: LoadedBootstrap): GatewayConfig {
  const { routeTables: _, assignments: __, secrets: ___, ...base } = config
  return { ...base, listeners: [], clusters: [] }
}
