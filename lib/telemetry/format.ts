import type { Json } from '../core/errors.ts'
import type { FormatConfig } from './config.ts'
import { compileOperator, encodeHeaderText, type OperatorSettings } from './format/compile.ts'
import { compileJson } from './format/json.ts'
import {
  type FormatEnvironment,
  FormatError,
  type FormatOutput,
  type LogStream,
  processEnvironment,
} from './format/operator.ts'
import { parseFormat } from './format/parse.ts'

export { FORMAT_COMMANDS, renderCommandTable } from './format/commands.ts'
export { type FormatEnvironment, FormatError, type FormatOutput, type LogStream, processEnvironment }

/** A compiled format. */
export type Format = (stream: LogStream) => string

export interface FormatOptions {
  /** Text of an operator that has no value: `-` in logs, '' in header values. */
  readonly missing: string
  /** Default: `header`, the strictest. Logs and bodies say so. */
  readonly output?: FormatOutput
  /** Default: read from the process now. */
  readonly environment?: FormatEnvironment
  /** Default: `NotSet`. */
  readonly logType?: string
  /** Told the name of each operator that is valid and never has a value here. */
  readonly onAbsent?: (command: string) => void
}

export interface JsonFormatOptions extends Omit<FormatOptions, 'missing' | 'output'> {
  /** Leaves out keys and list entries without a value, instead of writing null. */
  readonly omitEmpty?: boolean
}

/**
 * Compiles a `%...%` format (Envoy's command language) to a function. Throws `FormatError`, which names the position.
 *
 * @example
 * const line = compileFormat('%REQ(:METHOD)% %RESPONSE_CODE%\n', { missing: '-', output: 'log' })
 */
export function compileFormat(text: string, options: FormatOptions): Format {
  const { missing, output = 'header' } = options
  const settings = settingsOf(options, output)
  // literals[0] operators[0] literals[1] operators[1] … literals[n]
  const literals: string[] = ['']
  const operators: ((stream: LogStream) => string | undefined)[] = []
  for (const piece of parseFormat(text)) {
    if (piece.kind === 'command') {
      operators.push(compileOperator(piece, settings).text)
      literals.push('')
    } else literals[operators.length] += output === 'header' ? headerLiteral(piece.text) : piece.text
  }
  const constant = literals[0]
  if (operators.length === 0) return () => constant
  return (stream) => {
    let out = literals[0]
    for (let i = 0; i < operators.length; i++) {
      const value = operators[i](stream)
      out += (value === undefined ? missing : value) + literals[i + 1]
    }
    return out
  }
}

/**
 * Compiles a JSON format: strings are formats, everything else is constant. A string that is one operator keeps the type
 * of its value; null where it has none. Keys stay in order. The result has no newline at its end.
 */
export function compileJsonFormat(json: Json, options: JsonFormatOptions = {}): Format {
  return compileJson(json, settingsOf(options, 'body'), options.omitEmpty === true)
}

/** A generated body: local replies and direct responses. */
export function compileBodyFormat(config: FormatConfig, environment?: FormatEnvironment): Format {
  if (config.kind === 'json') return compileJsonFormat(config.json, { omitEmpty: config.omitEmpty, environment })
  return compileFormat(config.text, { missing: config.omitEmpty === true ? '' : '-', output: 'body', environment })
}

/** What is wrong with a format, and which of its operators never have a value here (to be reported as ignored). */
export function checkFormat(config: FormatConfig): { readonly errors: string[]; readonly absent: string[] } {
  const absent: string[] = []
  const errors: string[] = []
  const options = { onAbsent: (command: string) => absent.push(command) }
  try {
    if (config.kind === 'json') compileJsonFormat(config.json, options)
    else compileFormat(config.text, { missing: '', output: 'body', ...options })
  } catch (error) {
    if (!(error instanceof FormatError)) throw error
    errors.push(error.message)
  }
  return { errors, absent }
}

function settingsOf(options: Omit<FormatOptions, 'missing'>, output: FormatOutput): OperatorSettings {
  return {
    environment: options.environment ?? processEnvironment(),
    logType: options.logType ?? 'NotSet',
    output,
    onAbsent: options.onAbsent,
  }
}

function headerLiteral(text: string): string {
  const wrong = text.search(/[\0\r\n]/)
  if (wrong >= 0) throw new FormatError('line breaks and NUL cannot stand in a header value', wrong)
  return encodeHeaderText(text) ?? ''
}
