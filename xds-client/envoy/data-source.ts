import type { FieldReader } from '../../lib/core/field-reader.ts'
import type { EnvoyContext } from './context.ts'

/** `config.core.v3.DataSource`, read now; undefined where it is not set or could not be read. */
export function readDataSource(reader: FieldReader | undefined, context: EnvoyContext): Buffer | undefined {
  if (reader === undefined) return undefined
  const directory = reader.message('watched_directory')
  if (directory !== undefined) context.watchDirectory?.(directory.string('path'))
  switch (reader.which('specifier')) {
    case 'inline_string':
      return Buffer.from(reader.string('inline_string'), 'utf8')
    case 'inline_bytes':
      return reader.bytes('inline_bytes') ?? Buffer.alloc(0)
    case 'filename':
      return readFile(reader, context)
    case 'environment_variable':
      return readVariable(reader, context)
    default:
      return undefined
  }
}

function readFile(reader: FieldReader, context: EnvoyContext): Buffer | undefined {
  const path = reader.string('filename')
  if (context.readFile === undefined) {
    reader.error('filename', 'files are not available here')
    return undefined
  }
  try {
    return context.readFile(path)
  } catch (error) {
    reader.error('filename', `cannot read "${path}": ${error instanceof Error ? error.message : String(error)}`)
    return undefined
  }
}

function readVariable(reader: FieldReader, context: EnvoyContext): Buffer | undefined {
  const name = reader.string('environment_variable')
  const value = context.environment?.(name)
  if (value === undefined) {
    reader.error('environment_variable', `environment variable "${name}" is not set`)
    return undefined
  }
  return Buffer.from(value, 'utf8')
}
