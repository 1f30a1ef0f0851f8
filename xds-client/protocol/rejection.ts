import { ConfigError } from '../../lib/core/errors.ts'
import type { Rejection } from '../source.ts'

/** Servers log what they are told, and some keep it in a status: nobody reads more. */
const MOST_CHARACTERS = 8 * 1024
/** Resources, and reasons of one. */
const MOST_LOGGED = 5

/** A mistake of the server in the protocol itself, about one resource; '' where its name is not known. */
export function protocolRejection(name: string, message: string): Rejection {
  return { name, errors: [new ConfigError('', message)] }
}

/** One reason, as it goes into a log. */
export interface Reason {
  readonly name: string
  /** Of the field; '' where the mistake is in the protocol. */
  readonly path: string
  readonly reason: string
}

/** The first reasons, for a log. */
export function reasonsOf(rejections: readonly Rejection[]): readonly Reason[] {
  const reasons: Reason[] = []
  for (const { name, errors } of rejections.slice(0, MOST_LOGGED)) {
    for (const { path, message } of errors.slice(0, MOST_LOGGED)) reasons.push({ name, path, reason: message })
  }
  return reasons
}

/** All reasons in one text, as it goes into a NACK: each with its resource and the path of the field. */
export function describeRejections(rejections: readonly Rejection[]): string {
  let text = ''
  for (let i = 0; i < rejections.length; i++) {
    const { name, errors } = rejections[i]
    const reasons = errors.map((error) => error.toString()).join('; ')
    const line = name === '' ? reasons : `"${name}": ${reasons}`
    if (text.length + line.length > MOST_CHARACTERS) {
      const cut = text === '' ? `${line.slice(0, MOST_CHARACTERS)}…` : text
      const left = rejections.length - i - (text === '' ? 1 : 0)
      return left === 0 ? cut : `${cut}\nand ${left} more`
    }
    text += `${text === '' ? '' : '\n'}${line}`
  }
  return text
}
