import { readFileSync } from 'node:fs'

/** The package's version; found upwards from here, since a published package has this file deeper than the sources. */
export function packageVersion(): string {
  for (let up = '../'; up.length < 30; up += '../') {
    try {
      const found = JSON.parse(readFileSync(new URL(`${up}package.json`, import.meta.url), 'utf8')) as {
        readonly name?: string
        readonly version?: string
      }
      if (found.name === 'headgate' && found.version !== undefined) return found.version
    } catch {
      // Not in this folder.
    }
  }
  return 'unknown'
}

/** What `headgate version`, `/server_info` and bug reports say. */
export function versionLine(): string {
  return `headgate/${packageVersion()} node/${process.versions.node} ${process.platform}-${process.arch}`
}
