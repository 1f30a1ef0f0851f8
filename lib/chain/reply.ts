import type { Replied } from './filter.ts'

/** What hooks return after answering; compare by identity. */
export const REPLIED: Replied = Object.freeze({ replied: true })
