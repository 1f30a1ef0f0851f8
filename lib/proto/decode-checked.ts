import type { DescMessage } from '@bufbuild/protobuf'
import type { ConfigError } from '../core/errors.ts'
import { type Decoded, decodeJson } from './decode-json.ts'
import type { ProtoRegistry } from './registry.ts'
import type { RuleChecker } from './rules.ts'

/**
 * `decodeJson`, then the validation rules, all mistakes together. A broken rule that only follows from a field that did
 * not decode is left out: where `nmae` is an unknown field, nobody needs to hear that `name` is required.
 */
export function decodeChecked(
  registry: ProtoRegistry,
  checker: RuleChecker,
  document: { readonly desc: DescMessage; readonly json: unknown; readonly path: string },
): Decoded {
  const { message, errors } = decodeJson(registry, document.desc, document.json, document.path)
  if (message === undefined) return { errors }
  const violations = checker.check(document.desc, message, document.path)
  if (errors.length === 0) return { message, errors: violations }
  const touched = new Set<string>()
  for (const { path, message: why } of errors) {
    touched.add(spelledPlainly(path))
    if (why.startsWith('unknown field')) touched.add(parentOf(spelledPlainly(path)))
  }
  const independent = violations.filter((violation) => !followsFrom(violation, touched))
  return { message, errors: [...errors, ...independent] }
}

/** True where the field itself, something inside it, or, for a missing value, a neighbour that nobody knows, failed to decode. */
function followsFrom(violation: ConfigError, touched: ReadonlySet<string>): boolean {
  const path = spelledPlainly(violation.path)
  if (touched.has(path)) return true
  return /required|at least/.test(violation.message) && touched.has(parentOf(path))
}

/** Violations use protobuf names, decoding errors the author's. */
function spelledPlainly(path: string): string {
  return path.replaceAll('_', '').toLowerCase()
}

function parentOf(path: string): string {
  return path.replace(/(\.[^.[\]]*|\[[^[\]]*\]|^[^.[\]]*)$/, '')
}
