import { hostname } from 'node:os'
import type { HttpStream } from '../../chain/filter.ts'
import { type Clock, systemClock } from '../../core/clock.ts'
import type { Json } from '../../core/errors.ts'

/** An exchange with what only logs and generated bodies may see of it. */
export interface LogStream extends HttpStream {
  /** Body of the local reply, before `body_format` is applied; undefined where there was none. */
  readonly localReplyBody?: string
  /** A connection, which has no protocol that we would know of (`ConnectionLogStream`). */
  readonly layer4?: boolean
}

/** What formats take from the process they run in. */
export interface FormatEnvironment {
  readonly hostname: string
  variable(name: string): string | undefined
  readonly clock: Clock
}

/** The machine's name, the process's variables and the system clock. */
export function processEnvironment(clock: Clock = systemClock): FormatEnvironment {
  return { hostname: hostname(), variable: (name) => process.env[name], clock }
}

/**
 * Where a rendered format goes, which decides how foreign text is made safe:
 * `header`: latin1, as header values are held; line breaks and NUL become spaces.
 * `log`: Unicode; line breaks and NUL from requests and metadata are written as escapes, so that a line stays a line.
 * `body`: Unicode, as it is.
 */
export type FormatOutput = 'header' | 'log' | 'body'

/** Reads one value of an exchange; undefined where there is none. */
export type Read = (stream: LogStream) => Json | undefined

/** Operators whose text differs from their JSON value. */
export interface Readers {
  readonly json: Read
  readonly text: Read
}

/**
 * Where a command's text comes from.
 * `plain`: made by this proxy, printable ASCII. `wire`: header bytes as latin1, checked by the codec.
 * `bytes`: bytes as latin1 that nobody checked (percent-decoded). `text`: Unicode from configuration, filters or errors.
 */
export type Origin = 'plain' | 'wire' | 'bytes' | 'text'

export interface CommandContext {
  readonly environment: FormatEnvironment
  /** `%ACCESS_LOG_TYPE%`, for example `DownstreamEnd`; `NotSet` outside access logs. */
  readonly logType: string
  /** Compiles another operator (for COALESCE). */
  operator(command: string, argument: string | undefined, length: number | undefined): Operator
  /** This operator is valid and never has a value here. */
  absent(): void
  /** The argument is wrong. */
  fail(message: string): never
}

/** One command of the language. */
export interface Command {
  readonly name: string
  readonly alias?: string
  /** How the argument is written, `(X?Y)`; '' where there is none. */
  readonly argument: string
  readonly needs: 'nothing' | 'optional' | 'argument'
  /** What `:N` does: an error, cuts text and JSON strings, or cuts text only. */
  readonly length: 'refused' | 'cuts' | 'cuts-text'
  readonly origin: Origin
  /** One clause, for the table of commands. */
  readonly meaning: string
  compile(argument: string | undefined, context: CommandContext): Read | Readers
}

/** A compiled operator. */
export interface Operator {
  /** Text, made safe for the output; undefined where there is no value. */
  readonly text: (stream: LogStream) => string | undefined
  readonly json: Read
}

/** A format that cannot be compiled; `position` counts characters from 0. */
export class FormatError extends Error {
  readonly reason: string
  readonly position: number

  constructor(reason: string, position: number) {
    super(`${reason} (at character ${position + 1})`)
    this.name = 'FormatError'
    this.reason = reason
    this.position = position
  }
}

/** A command without argument that reads something this proxy made. */
export function plainCommand(name: string, meaning: string, read: Read, origin: Origin = 'plain'): Command {
  return { name, argument: '', needs: 'nothing', length: 'refused', origin, meaning, compile: () => read }
}
