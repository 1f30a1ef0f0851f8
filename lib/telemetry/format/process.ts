import { randomUUID } from 'node:crypto'
import { type Command, type CommandContext, plainCommand, type Read } from './operator.ts'

/** What comes from the process, and the operator that chooses among others. */
export const PROCESS_COMMANDS: readonly Command[] = Object.freeze([
  {
    name: 'HOSTNAME',
    argument: '',
    needs: 'nothing',
    length: 'refused',
    origin: 'text',
    meaning: 'name of the machine',
    compile: (_, { environment }: CommandContext) => {
      const name = environment.hostname
      return () => name
    },
  },
  {
    name: 'ENVIRONMENT',
    argument: '(X)',
    needs: 'argument',
    length: 'cuts',
    origin: 'text',
    meaning: 'environment variable X, as it was when the configuration was applied; - where it is not set',
    compile: (argument, { environment }) => {
      const value = environment.variable(argument ?? '') ?? '-'
      return () => value
    },
  },
  plainCommand('UNIQUE_ID', 'a random UUID, new each time', () => randomUUID()),
  {
    name: 'COALESCE',
    argument: '({"operators": […]})',
    needs: 'argument',
    length: 'cuts',
    // The operators have made their own text safe.
    origin: 'plain',
    meaning: 'the first operator of a list that gives something: names, or {"command", "param", "max_length"}',
    compile: coalesce,
  },
] satisfies Command[])

function coalesce(argument: string | undefined, context: CommandContext): Read {
  const operators = operatorsOf(argument ?? '', context).map((entry) => {
    const { command, param, length } = entryOf(entry, context)
    return context.operator(command, param, length)
  })
  return (stream) => {
    for (const operator of operators) {
      const text = operator.text(stream)
      if (text !== undefined && text !== '') return text
    }
    return undefined
  }
}

function operatorsOf(argument: string, context: CommandContext): unknown[] {
  let parsed: unknown
  try {
    parsed = JSON.parse(argument)
  } catch {
    context.fail('expects a JSON object with a list "operators"')
  }
  const list = typeof parsed === 'object' && parsed !== null && 'operators' in parsed ? parsed.operators : undefined
  if (!Array.isArray(list) || list.length === 0) context.fail('expects a JSON object with a list "operators"')
  return list
}

function entryOf(
  entry: unknown,
  context: CommandContext,
): { command: string; param: string | undefined; length: number | undefined } {
  if (typeof entry === 'string') return { command: entry, param: undefined, length: undefined }
  if (typeof entry !== 'object' || entry === null) context.fail('an operator is a name or an object with "command"')
  const { command, param, max_length: length } = entry as Record<string, unknown>
  if (typeof command !== 'string') context.fail('an operator needs a "command"')
  if (param !== undefined && typeof param !== 'string') context.fail('"param" must be a string')
  if (length !== undefined && !(typeof length === 'number' && Number.isInteger(length) && length > 0)) {
    context.fail('"max_length" must be a positive integer')
  }
  return { command, param, length: length as number | undefined }
}
