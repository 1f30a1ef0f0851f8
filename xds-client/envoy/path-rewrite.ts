import type { FieldReader } from '../../lib/core/field-reader.ts'
import type { HostRewriteConfig, PathMatchConfig, PathRewriteConfig } from '../../lib/router/config.ts'
import type { EnvoyContext } from './context.ts'
import { checkedText } from './format.ts'
import { refuseExtension, typedExtension } from './refusals.ts'
import { translateRegexRewrite } from './regex.ts'

const TEMPLATE = 'envoy.extensions.path.rewrite.uri_template.v3.UriTemplateRewriteConfig'

const REWRITES = ['prefix_rewrite', 'regex_rewrite', 'path_rewrite_policy', 'path_rewrite'] as const

/** The path rewrite of a RouteAction: at most one of its four forms. */
export function translatePathRewrite(
  reader: FieldReader,
  context: EnvoyContext,
  path: PathMatchConfig | undefined,
): PathRewriteConfig | undefined {
  const set = REWRITES.filter((name) => reader.has(name))
  if (set.length > 1) reader.error(set[1], `only one of ${set.join(', ')} may be set`)
  const prefix = reader.string('prefix_rewrite')
  const regex = reader.message('regex_rewrite')
  const rewrite = regex === undefined ? undefined : translateRegexRewrite(regex)
  const template = translatePolicy(reader.message('path_rewrite_policy'))
  if (template !== undefined) checkTemplate(reader, template, context, path)
  const format = checkedText(reader, 'path_rewrite', context)
  if (prefix !== '') return { kind: 'prefix', value: prefix }
  if (rewrite !== undefined) return { kind: 'regex', rewrite }
  if (template !== undefined) return { kind: 'template', value: template }
  return format === '' ? undefined : { kind: 'format', value: format }
}

function checkTemplate(
  reader: FieldReader,
  rewrite: string,
  context: EnvoyContext,
  path: PathMatchConfig | undefined,
): void {
  if (path === undefined) return
  const problem =
    path.kind === 'template'
      ? context.checks.pathTemplateRewrite(path.value, rewrite)
      : 'a template rewrite needs a route that matches by a path template'
  if (problem !== undefined) reader.error('path_rewrite_policy', problem)
}

function translatePolicy(at: FieldReader | undefined): string | undefined {
  const extension = typedExtension(at)
  if (at === undefined || extension === undefined) return undefined
  if (extension.typeUrl === TEMPLATE) return extension.fields.string('path_template_rewrite')
  refuseExtension(at, 'typed_config', extension, `path rewriter "${extension.typeUrl}" is not available`)
  return undefined
}

/** The oneof `host_rewrite_specifier` of a RouteAction. */
export function translateHostRewrite(reader: FieldReader, context: EnvoyContext): HostRewriteConfig | undefined {
  switch (reader.which('host_rewrite_specifier')) {
    case 'host_rewrite_literal': {
      const value = reader.string('host_rewrite_literal')
      return value === '' ? undefined : { kind: 'literal', value }
    }
    case 'auto_host_rewrite':
      return reader.bool('auto_host_rewrite') ? { kind: 'auto' } : undefined
    case 'host_rewrite_header': {
      const name = reader.string('host_rewrite_header').toLowerCase()
      return name === '' ? undefined : { kind: 'header', name }
    }
    case 'host_rewrite_path_regex': {
      const rewrite = reader.message('host_rewrite_path_regex')
      return rewrite === undefined ? undefined : { kind: 'path-regex', rewrite: translateRegexRewrite(rewrite) }
    }
    case 'host_rewrite': {
      const value = checkedText(reader, 'host_rewrite', context)
      return value === '' ? undefined : { kind: 'format', value }
    }
    default:
      return undefined
  }
}
