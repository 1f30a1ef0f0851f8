import type { Json } from '../../core/errors.ts'
import { valueAt } from '../../match/value.ts'
import type { Command, CommandContext, LogStream, Read, Readers } from './operator.ts'

/** Metadata of kinds that Envoy knows and that an exchange does not carry here. */
const ABSENT_KINDS: readonly string[] = Object.freeze([
  'CLUSTER',
  'UPSTREAM_HOST',
  'LISTENER',
  'LISTENER_FILTER_CHAIN',
  'VIRTUAL_HOST',
])

/** Dynamic and configured metadata, and the state that filters leave. */
export const METADATA_COMMANDS: readonly Command[] = Object.freeze([
  {
    name: 'DYNAMIC_METADATA',
    argument: '(NAMESPACE:KEY*)',
    needs: 'argument',
    length: 'cuts-text',
    origin: 'text',
    meaning: 'dynamic metadata of a namespace, or what its keys lead to; structures as JSON',
    compile: (argument, context) => dynamicMetadata((argument ?? '').split(':'), context),
  },
  {
    name: 'METADATA',
    argument: '(TYPE:NAMESPACE:KEY*)',
    needs: 'argument',
    length: 'cuts-text',
    origin: 'text',
    meaning: 'the same for TYPE DYNAMIC or ROUTE; other types have no value',
    compile: metadata,
  },
  {
    name: 'FILTER_STATE',
    argument: '(KEY:PLAIN|TYPED|FIELD:NAME)',
    needs: 'argument',
    length: 'cuts-text',
    origin: 'text',
    meaning: 'an object that a filter left: as plain text, as JSON (TYPED, the default), or one field of it',
    compile: filterState,
  },
] satisfies Command[])

function dynamicMetadata(path: readonly string[], context: CommandContext): Read {
  const [namespace, ...keys] = path
  if (namespace === '') context.fail('expects a metadata namespace')
  return (stream) => leaf(stream.metadata.get(namespace), keys)
}

function metadata(argument: string | undefined, context: CommandContext): Read {
  const [type, ...path] = (argument ?? '').split(':')
  if (type === 'DYNAMIC') return dynamicMetadata(path.length === 0 ? [''] : path, context)
  if (type !== 'ROUTE' && !ABSENT_KINDS.includes(type)) {
    context.fail(`unknown metadata type "${type}": DYNAMIC, ROUTE, ${ABSENT_KINDS.join(', ')}`)
  }
  const [namespace = '', ...keys] = path
  if (namespace === '') context.fail('expects a metadata namespace')
  if (type !== 'ROUTE') {
    context.absent()
    return () => undefined
  }
  return ({ route }) => {
    const all = route?.metadata
    return all === undefined || !Object.hasOwn(all, namespace) ? undefined : leaf(all[namespace], keys)
  }
}

function filterState(argument: string | undefined, context: CommandContext): Read | Readers {
  const [key, form = 'TYPED', field, ...rest] = (argument ?? '').split(':')
  if (key === '') context.fail('expects the key of a filter state object')
  const takesField = form === 'FIELD'
  if (!['PLAIN', 'TYPED', 'FIELD'].includes(form)) context.fail(`unknown form "${form}": PLAIN, TYPED or FIELD`)
  if (rest.length > 0 || takesField !== (field !== undefined))
    context.fail('FIELD, and only FIELD, takes the name of a field')
  if (form === 'PLAIN') return (stream) => plainText(stream, key)
  if (takesField) return (stream) => leaf(json(stream, key), [field])
  return {
    json: (stream) => json(stream, key) ?? undefined,
    text: (stream) => {
      const value = json(stream, key)
      return value === undefined || value === null ? undefined : JSON.stringify(value)
    },
  }
}

/** What JSON makes of the object. A filter's object may throw or be circular: a log line is not where to fail. */
function json(stream: LogStream, key: string): Json | undefined {
  const value = stream.filterState.get(key)
  if (value === undefined || value === null) return undefined
  try {
    const text: string | undefined = JSON.stringify(value)
    return text === undefined ? undefined : (JSON.parse(text) as Json)
  } catch {
    return undefined
  }
}

function plainText(stream: LogStream, key: string): string | undefined {
  const value = stream.filterState.get(key)
  if (typeof value === 'string') return value
  if (typeof value === 'number' || typeof value === 'boolean' || typeof value === 'bigint') return `${value}`
  const plain = json(stream, key)
  return plain === undefined ? undefined : typeof plain === 'string' ? plain : JSON.stringify(plain)
}

/** What a path of keys leads to; null counts as nothing, as in Envoy. */
function leaf(value: Json | undefined, path: readonly string[]): Json | undefined {
  return valueAt(value, path) ?? undefined
}
