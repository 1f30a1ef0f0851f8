import type { Headers } from '../core/headers.ts'
import type { CredentialConfig } from './config.ts'

/** Adds a cluster's credential to a request. False where the request must not go without, and would. */
export function addCredential(headers: Headers, { header, value, overwrite, required }: CredentialConfig): boolean {
  if (!overwrite && headers.has(header)) return true
  if (value === '') return required !== true
  headers.put(header, value)
  return true
}
