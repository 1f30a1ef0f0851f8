import type { Json } from '../../core/errors.ts'
import type { Pace } from './pace.ts'

/** JSON that is made while it is written, piece by piece. */
export type DumpNode =
  | { readonly kind: 'json'; make(): Json }
  | { readonly kind: 'list'; readonly items: Iterable<DumpNode> }
  | { readonly kind: 'object'; readonly fields: Iterable<readonly [name: string, node: DumpNode]> }

const CHUNK_CHARS = 64 * 1024

export function jsonNode(make: () => Json): DumpNode {
  return { kind: 'json', make }
}

/** The nodes of a list, each made when it is reached. */
export function* mapNodes<T>(entries: Iterable<T>, make: (entry: T) => DumpNode): Generator<DumpNode, void, void> {
  for (const entry of entries) yield make(entry)
}

/**
 * Writes a node as Envoy's admin does, indented by one, in pieces of about 64 KiB. The event loop turns between resources as
 * `pace` says.
 */
export async function* writeNode(node: DumpNode, pace: Pace): AsyncGenerator<string, void, void> {
  let out = ''
  for (const piece of pieces(node, 0)) {
    out += piece
    if (out.length >= CHUNK_CHARS) {
      yield out
      out = ''
    }
    const turn = pace.pause()
    if (turn !== undefined) await turn
  }
  yield `${out}\n`
}

function* pieces(node: DumpNode, depth: number): Generator<string, void, void> {
  if (node.kind === 'json') {
    const text = JSON.stringify(node.make(), undefined, 1) ?? 'null'
    yield depth === 0 ? text : text.replaceAll('\n', `\n${' '.repeat(depth)}`)
    return
  }
  const [open, close] = node.kind === 'list' ? '[]' : '{}'
  const indent = `\n${' '.repeat(depth + 1)}`
  let first = true
  for (const member of node.kind === 'list' ? node.items : node.fields) {
    yield `${first ? open : ','}${indent}`
    first = false
    if (node.kind === 'list') yield* pieces(member as DumpNode, depth + 1)
    else {
      const [name, inner] = member as readonly [string, DumpNode]
      yield `${JSON.stringify(name)}: `
      yield* pieces(inner, depth + 1)
    }
  }
  if (first) yield open + close
  else yield `\n${' '.repeat(depth)}${close}`
}
