import type { HttpStream } from '../chain/filter.ts'
import type { Headers } from '../core/headers.ts'
import type { AppendAction, HeaderEditsConfig } from '../router/config.ts'

/** Compiles a text with `%...%` operators; `missing` stands for what has no value. */
export type CompileFormat = (text: string, missing: string) => (stream: HttpStream) => string

/** Applies compiled edits to headers; formats are evaluated over the exchange. */
export type HeaderEdits = (headers: Headers, stream: HttpStream) => void

/**
 * Compiles removals and additions of headers, level by level in the order given. Within a level Envoy's order holds:
 * removals, then all values are evaluated over what is left, then overwriting, then adding. A value that turns out
 * empty is dropped unless `keepEmpty`. Texts without operators cost nothing per request.
 *
 * @returns undefined where there is nothing to do.
 * @throws Error for a bad format, or a header that may not be changed this way: pseudo headers and Host.
 */
export function compileHeaderEdits(
  levels: readonly (HeaderEditsConfig | undefined)[],
  compileFormat: CompileFormat,
): HeaderEdits | undefined {
  const steps: HeaderEdits[] = []
  for (const level of levels) {
    if (level === undefined) continue
    const remove = level.remove.map(editableName)
    const writes = level.add.map((h) => compileWrite(h, compileFormat))
    const ordered = [...writes.filter((w) => isOverwrite(w.action)), ...writes.filter((w) => !isOverwrite(w.action))]
    if (remove.length > 0) steps.push(removal(remove))
    if (ordered.length > 0) steps.push(writing(ordered))
  }
  return inTurn(steps)
}

interface Write {
  readonly name: string
  readonly action: AppendAction
  readonly keepEmpty: boolean
  /** The text itself where it has no operators. */
  readonly constant: string | undefined
  readonly format: (stream: HttpStream) => string
}

function editableName(name: string): string {
  const lower = name.toLowerCase()
  if (lower === '' || lower.startsWith(':') || lower === 'host') {
    throw new Error(`header "${name}" can't be added, changed or removed by a route`)
  }
  return lower
}

function compileWrite(config: HeaderEditsConfig['add'][number], compileFormat: CompileFormat): Write {
  const constant = constantText(config.value)
  return {
    name: editableName(config.name),
    action: config.action,
    keepEmpty: config.keepEmpty === true,
    constant,
    format: constant === undefined ? compileFormat(config.value, '') : () => constant,
  }
}

/** What a format without operators prints (`%%` is a percent sign); undefined where it has operators. */
export function constantText(format: string): string | undefined {
  if (!format.includes('%')) return format
  const text = format.replaceAll('%%', '')
  return text.includes('%') ? undefined : format.replaceAll('%%', '%')
}

function isOverwrite(action: AppendAction): boolean {
  return action === 'overwrite-or-add' || action === 'overwrite-if-exists'
}

function removal(names: readonly string[]): HeaderEdits {
  return (headers) => {
    for (const name of names) headers.delete(name)
  }
}

function writing(writes: readonly Write[]): HeaderEdits {
  if (writes.every((w) => w.constant !== undefined)) {
    return (headers) => {
      for (const w of writes) apply(headers, w, w.constant ?? '')
    }
  }
  if (writes.length === 1) {
    const only = writes[0]
    return (headers, stream) => apply(headers, only, only.format(stream))
  }
  return (headers, stream) => {
    // Every value is taken from the headers as they came, not from what this level has written already.
    const values: string[] = []
    for (const w of writes) values.push(w.format(stream))
    for (let i = 0; i < writes.length; i++) apply(headers, writes[i], values[i])
  }
}

function apply(headers: Headers, write: Write, value: string): void {
  if (value === '' && !write.keepEmpty) return
  switch (write.action) {
    case 'append':
      headers.append(write.name, value)
      return
    case 'add-if-absent':
      if (!headers.has(write.name)) headers.append(write.name, value)
      return
    case 'overwrite-or-add':
      headers.set(write.name, value)
      return
    case 'overwrite-if-exists':
      if (headers.has(write.name)) headers.set(write.name, value)
      return
  }
}

/** One function for several; undefined for none. */
export function inTurn(steps: readonly HeaderEdits[]): HeaderEdits | undefined {
  if (steps.length <= 1) return steps[0]
  return (headers, stream) => {
    for (const step of steps) step(headers, stream)
  }
}
