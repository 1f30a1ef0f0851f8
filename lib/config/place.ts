import { isMap, isScalar, isSeq, LineCounter, type Node, type Pair, parseDocument } from 'yaml'
import type { Place } from '../core/errors.ts'

/** Answers where the part of a text with that path stands; undefined where the text has no parts at all. */
export type PlaceFinder = (path: string) => Place | undefined

/**
 * Parses a text once more, this time for its positions, which is why it is done only when there is an error to point at.
 * A field is at its key, a list item where it begins. What is not there is where the nearest part above it is.
 */
export function createPlaceFinder(text: string, file: string): PlaceFinder {
  const lines = new LineCounter()
  const { contents } = parseDocument(text, {
    lineCounter: lines,
    uniqueKeys: false,
    prettyErrors: false,
    logLevel: 'error',
  })
  const anchors = new Map<string, Node>()
  return (path) => {
    if (contents === null) return undefined
    let node: unknown = contents
    let offset = startOf(contents) ?? 0
    for (const step of stepsOf(path)) {
      const found = stepInto(resolve(node, contents, anchors), step)
      if (found === undefined) break
      node = found.node
      offset = found.offset ?? offset
    }
    const { line, col } = lines.linePos(offset)
    return { file, line: Math.max(line, 1), column: Math.max(col, 1) }
  }
}

/** `a.b[0].c["key"]` as `a`, `b`, 0, `c`, `key`. */
export function stepsOf(path: string): (string | number)[] {
  const steps: (string | number)[] = []
  for (const [, name, index, key] of path.matchAll(/([^.[\]]+)|\[(\d+)\]|\[("(?:[^"\\]|\\.)*")\]/g)) {
    if (name !== undefined) steps.push(name)
    else if (index !== undefined) steps.push(Number(index))
    else steps.push(unquoted(key))
  }
  return steps
}

/** Errors are made everywhere; a key that is not quoted as JSON must not turn a message into a crash. */
function unquoted(key: string): string {
  try {
    return JSON.parse(key) as string
  } catch {
    return key
  }
}

interface Found {
  readonly node: unknown
  readonly offset: number | undefined
}

function stepInto(node: unknown, step: string | number): Found | undefined {
  if (isSeq(node)) {
    const item = typeof step === 'number' ? node.items[step] : undefined
    return item === undefined ? undefined : { node: item, offset: startOf(item) }
  }
  if (!isMap(node) || typeof step === 'number') return undefined
  const pair = findPair(node.items, (key) => key === step) ?? findPair(node.items, (key) => plain(key) === plain(step))
  return pair === undefined ? undefined : { node: pair.value, offset: startOf(pair.key) }
}

function findPair(items: Pair[], matches: (key: string) => boolean): Pair | undefined {
  return items.find(({ key }) => isScalar(key) && matches(String(key.value)))
}

/** One name for both spellings of a protobuf field. */
function plain(name: string): string {
  return name.replaceAll('_', '').toLowerCase()
}

/** The node that an alias stands for. Anchors are looked up once, by the last node of that name in the text. */
function resolve(node: unknown, root: Node, anchors: Map<string, Node>): unknown {
  const source = (node as { source?: unknown } | null)?.source
  if (typeof source !== 'string') return node
  if (anchors.size === 0) collectAnchors(root, anchors)
  return anchors.get(source)
}

function collectAnchors(node: unknown, anchors: Map<string, Node>): void {
  const anchor = (node as { anchor?: unknown } | null)?.anchor
  if (typeof anchor === 'string') anchors.set(anchor, node as Node)
  if (isSeq(node)) for (const item of node.items) collectAnchors(item, anchors)
  else if (isMap(node)) for (const pair of node.items) collectAnchors(pair.value, anchors)
}

function startOf(node: unknown): number | undefined {
  return (node as { range?: [number, number, number] | null } | null)?.range?.[0]
}
