import type { Json } from '../../core/errors.ts'
import { compileOperator, type OperatorSettings } from './compile.ts'
import { FormatError, type LogStream } from './operator.ts'
import { parseFormat } from './parse.ts'

/** JSON text of a value; undefined: to be left out. */
type Write = (stream: LogStream) => string | undefined

/** Compiles a tree of formats to a function that writes JSON text; see `compileJsonFormat`. */
export function compileJson(json: Json, settings: OperatorSettings, omitEmpty: boolean): (stream: LogStream) => string {
  const write = compileValue(json, '', settings, omitEmpty)
  return (stream) => write(stream) ?? 'null'
}

function compileValue(json: Json, path: string, settings: OperatorSettings, omitEmpty: boolean): Write {
  if (typeof json === 'string') return compileString(json, path, settings, omitEmpty)
  if (Array.isArray(json)) {
    return writeList(json.map((item, i) => compileValue(item, `${path}[${i}]`, settings, omitEmpty)))
  }
  if (typeof json === 'object' && json !== null) {
    const keys: string[] = []
    const writers: Write[] = []
    for (const [key, value] of Object.entries(json)) {
      keys.push(`${JSON.stringify(key)}:`)
      writers.push(compileValue(value, path === '' ? key : `${path}.${key}`, settings, omitEmpty))
    }
    return writeObject(keys, writers)
  }
  const constant = json === null && omitEmpty ? undefined : JSON.stringify(json)
  return () => constant
}

function writeObject(keys: readonly string[], writers: readonly Write[]): Write {
  return (stream) => {
    let out = '{'
    for (let i = 0; i < writers.length; i++) {
      const value = writers[i](stream)
      if (value !== undefined) out += (out.length === 1 ? '' : ',') + keys[i] + value
    }
    return `${out}}`
  }
}

function writeList(writers: readonly Write[]): Write {
  return (stream) => {
    let out = '['
    for (let i = 0; i < writers.length; i++) {
      const value = writers[i](stream)
      if (value !== undefined) out += (out.length === 1 ? '' : ',') + value
    }
    return `${out}]`
  }
}

function compileString(text: string, path: string, settings: OperatorSettings, omitEmpty: boolean): Write {
  try {
    const pieces = parseFormat(text)
    if (pieces.length === 1 && pieces[0].kind === 'command') {
      const read = compileOperator(pieces[0], settings).json
      const absent = omitEmpty ? undefined : 'null'
      return (stream) => {
        const value = read(stream)
        return value === undefined ? absent : typeof value === 'number' ? `${value}` : JSON.stringify(value)
      }
    }
    const missing = omitEmpty ? '' : '-'
    const parts = pieces.map((piece) => (piece.kind === 'literal' ? piece.text : compileOperator(piece, settings).text))
    return (stream) => {
      let out = ''
      for (const part of parts) out += typeof part === 'string' ? part : (part(stream) ?? missing)
      return JSON.stringify(out)
    }
  } catch (error) {
    if (!(error instanceof FormatError) || path === '') throw error
    throw new FormatError(`"${path}": ${error.reason}`, error.position)
  }
}
