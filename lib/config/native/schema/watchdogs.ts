import { z } from 'zod'
import type { NativeWatchdog, NativeWatchdogs } from '../watchdogs.ts'
import { ms, object } from './pieces.ts'

export function watchdogs(): z.ZodType<NativeWatchdogs> {
  return object<NativeWatchdogs>({ control: watchdog().optional(), workers: watchdog().optional() })
}

function watchdog(): z.ZodType<NativeWatchdog> {
  return object<NativeWatchdog>({
    missMs: ms().min(1).optional(),
    megaMissMs: ms().min(1).optional(),
    killMs: ms().min(1).optional(),
    killJitterMs: ms().optional(),
    multikillMs: ms().min(1).optional(),
    multikillPercent: z.number().min(0).max(100).optional(),
  })
}
