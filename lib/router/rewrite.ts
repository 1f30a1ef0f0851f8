import type { HttpStream } from '../chain/filter.ts'
import { barePath, pathEnd } from '../match/path.ts'
import { compileSubstitution } from '../match/regex.ts'
import { compileTemplateRewrite } from '../match/template.ts'
import { type CompileFormat, constantText } from '../telemetry/header-edits.ts'
import type { HostRewriteConfig, PathMatchConfig, PathRewriteConfig } from './config.ts'

/** The new `:path`, query included. */
export type PathRewrite = (stream: HttpStream) => string

/** The new authority; undefined leaves it as it is. */
export type HostRewrite = (stream: HttpStream, upstreamHostname: string) => string | undefined

/**
 * Compiles the rewriting of a path that `match` has matched. Query and fragment are kept. `prefix` replaces the matched
 * prefix, or the whole path where the match was not one by prefix.
 *
 * @throws Error for a bad regex, substitution, template or format.
 */
export function compilePathRewrite(
  config: PathRewriteConfig,
  match: PathMatchConfig,
  compileFormat: CompileFormat,
): PathRewrite {
  switch (config.kind) {
    case 'prefix':
      return replacePrefix(match, config.value)
    case 'regex': {
      const substitute = compileSubstitution(config.rewrite.regex, config.rewrite.substitution)
      return (stream) => withRest(stream.head.path, substitute(barePath(stream.head.path)))
    }
    case 'template': {
      if (match.kind !== 'template') throw new Error('a URI template rewrite needs a URI template match')
      const rewrite = compileTemplateRewrite(match.value, config.value)
      return (stream) => withRest(stream.head.path, rewrite(barePath(stream.head.path)))
    }
    case 'format': {
      const constant = constantText(config.value)
      const format = constant === undefined ? compileFormat(config.value, '') : () => constant
      return (stream) => withRest(stream.head.path, format(stream))
    }
  }
}

function replacePrefix(match: PathMatchConfig, replacement: string): PathRewrite {
  if (match.kind === 'prefix' || match.kind === 'path-separated-prefix') {
    const length = match.value.length
    return (stream) => replacement + stream.head.path.slice(length)
  }
  return (stream) => withRest(stream.head.path, replacement)
}

/** The new path with the old one's query and fragment; undefined leaves the old one. */
function withRest(path: string, bare: string | undefined): string {
  if (bare === undefined) return path
  const end = pathEnd(path)
  return end === path.length ? bare : bare + path.slice(end)
}

/** @throws Error for a bad regex, substitution or format. */
export function compileHostRewrite(config: HostRewriteConfig, compileFormat: CompileFormat): HostRewrite {
  switch (config.kind) {
    case 'literal': {
      const { value } = config
      return () => value
    }
    case 'header': {
      const name = config.name.toLowerCase()
      return (stream) => nonEmpty(name === ':authority' ? stream.head.authority : stream.request.get(name))
    }
    case 'path-regex': {
      const substitute = compileSubstitution(config.rewrite.regex, config.rewrite.substitution)
      return (stream) => nonEmpty(substitute(barePath(stream.head.path)))
    }
    case 'format': {
      const format = compileFormat(config.value, '')
      return (stream) => nonEmpty(format(stream))
    }
    case 'auto':
      return (_stream, upstreamHostname) => nonEmpty(upstreamHostname)
  }
}

function nonEmpty(value: string | undefined): string | undefined {
  return value === '' ? undefined : value
}
