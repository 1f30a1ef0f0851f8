import type { Json } from '../../core/errors.ts'
import { REFUSED_COMMANDS } from './absent.ts'
import { findCommand } from './commands.ts'
import {
  type Command,
  type CommandContext,
  type FormatEnvironment,
  FormatError,
  type FormatOutput,
  type LogStream,
  type Operator,
  type Origin,
  type Read,
} from './operator.ts'

/** Everything an operator is compiled for. */
export interface OperatorSettings {
  readonly environment: FormatEnvironment
  readonly logType: string
  readonly output: FormatOutput
  /** Told the name of each operator that is valid and never has a value. */
  readonly onAbsent: ((command: string) => void) | undefined
}

/** A command as written; `position` is where it stands in its format. */
export interface WrittenCommand {
  readonly name: string
  readonly argument: string | undefined
  readonly length: number | undefined
  readonly position: number
}

type Text = (stream: LogStream) => string | undefined

/** Compiles one operator. Throws `FormatError`. */
export function compileOperator(written: WrittenCommand, settings: OperatorSettings): Operator {
  const { name, argument, length, position } = written
  const command = findCommand(name)
  if (command === undefined) {
    const refused = REFUSED_COMMANDS.find(([known]) => known === name)
    throw new FormatError(`%${name}% is not supported${refused === undefined ? '' : `: ${refused[1]}`}`, position)
  }
  checkSyntax(command, written)
  const context: CommandContext = {
    environment: settings.environment,
    logType: settings.logType,
    operator: (inner, param, cut) => compileOperator({ name: inner, argument: param, length: cut, position }, settings),
    absent: () => settings.onAbsent?.(name),
    fail: (message) => {
      throw new FormatError(`%${name}%: ${message}`, position)
    },
  }
  const compiled = command.compile(argument, context)
  const readText = typeof compiled === 'function' ? compiled : compiled.text
  const readJson = typeof compiled === 'function' ? compiled : compiled.json
  return {
    text: safeText(textOf(readText, length, command.origin, settings.output), command.origin, settings.output),
    json: jsonValue(readJson, command, length),
  }
}

function checkSyntax(command: Command, written: WrittenCommand): void {
  const { name, argument, length, position } = written
  const wrong = (message: string): FormatError => new FormatError(`%${name}% ${message}`, position)
  if (command.needs === 'nothing' && argument !== undefined) throw wrong('takes no argument')
  if (command.needs === 'argument' && (argument === undefined || argument === '')) {
    throw wrong(`needs an argument: %${name}${command.argument}%`)
  }
  if (length !== undefined && command.length === 'refused') throw wrong('takes no length')
  if (length === 0) throw wrong('cannot be cut to 0 characters')
}

/**
 * The value as text, cut at `length` characters. Bytes from the wire that become Unicode are decoded first, so that the
 * cut falls between characters; structures are not cut, as in Envoy.
 */
function textOf(read: Read, length: number | undefined, origin: Origin, output: FormatOutput): Text {
  const decodes = isRaw(origin) && output !== 'header'
  const escapes = isRaw(origin) && output === 'log'
  return (stream) => {
    const value = read(stream)
    if (value === undefined) return undefined
    if (typeof value === 'string') {
      // Nearly every value is plain: one look settles decoding and escaping.
      if (escapes) {
        if (!/[\0\r\n\x80-\xff]/.test(value)) return length === undefined ? value : cut(value, length)
        const decoded = decode(value)
        return logSafe(length === undefined ? decoded : cut(decoded, length))
      }
      const text = decodes ? decode(value) : value
      return length === undefined ? text : cut(text, length)
    }
    if (typeof value === 'object') return JSON.stringify(value)
    return length === undefined ? `${value}` : cut(`${value}`, length)
  }
}

/** Bytes as they came, one character each. */
function isRaw(origin: Origin): boolean {
  return origin === 'wire' || origin === 'bytes'
}

function cut(text: string, length: number): string {
  if (text.length <= length) return text
  // Never half of a surrogate pair.
  const last = text.charCodeAt(length - 1)
  return text.slice(0, last >= 0xd800 && last <= 0xdbff ? length - 1 : length)
}

/** latin1 of UTF-8 bytes to Unicode; invalid sequences become U+FFFD. */
function decode(text: string): string {
  return /[\x80-\xff]/.test(text) ? Buffer.from(text, 'latin1').toString('utf8') : text
}

function safeText(read: Text, origin: Origin, output: FormatOutput): Text {
  if (origin === 'plain' || output === 'body') return read
  if (output === 'log') return isRaw(origin) ? read : (stream) => logSafe(read(stream))
  if (origin === 'wire') return read
  return origin === 'bytes' ? (stream) => lineSafe(read(stream)) : (stream) => encodeHeaderText(read(stream))
}

/** One line stays one line, whatever a client or a filter put into it. */
function logSafe(text: string | undefined): string | undefined {
  if (text === undefined || !/[\0\r\n]/.test(text)) return text
  return text.replaceAll('\n', '\\n').replaceAll('\r', '\\r').replaceAll('\0', '\\0')
}

function lineSafe(text: string | undefined): string | undefined {
  return text === undefined || !/[\0\r\n]/.test(text) ? text : text.replace(/[\0\r\n]/g, ' ')
}

/** Unicode as the bytes of UTF-8 in latin1, which is how header values are held; without line breaks. */
export function encodeHeaderText(text: string | undefined): string | undefined {
  if (text === undefined || !/[^\t\x20-\x7e]/.test(text)) return text
  return lineSafe(Buffer.from(text, 'utf8').toString('latin1'))
}

function jsonValue(read: Read, command: Command, length: number | undefined): Read {
  const decodes = command.origin === 'wire' || command.origin === 'bytes'
  const cuts = command.length === 'cuts' && length !== undefined
  if (!decodes && !cuts) return read
  return (stream): Json | undefined => {
    const value = read(stream)
    if (typeof value !== 'string') return value
    const text = decodes ? decode(value) : value
    return cuts ? cut(text, length) : text
  }
}
