export type { LiveConfig, LiveConfigEvents } from '../config/live.ts'
