import { createFilterRegistry } from '../chain/registry.ts'
import { systemClock } from '../core/clock.ts'
import { BufferGarbage, type Collect } from '../runtime/buffer-garbage.ts'
import { ignoreBrokenPipes } from '../runtime/shutdown.ts'
import { type CollectAll, StartGarbage } from '../runtime/start-garbage.ts'
import { runWorker } from '../runtime/worker.ts'
import { createLog } from '../telemetry/log.ts'
import { createEngine } from './engine.ts'
import { fromSettings } from './settings.ts'
import { lowerFilters, standardFilters } from './standard-filters.ts'

/** V8's, under `--expose-gc`. */
declare const gc: (Collect & CollectAll) | undefined

// The entry module of a worker process: forked by the supervisor, never imported.

const collect = typeof gc === 'function' ? gc : undefined
ignoreBrokenPipes(process)
// Also of one that is kept in reserve.
new StartGarbage({ clock: systemClock, collect })
runWorker({
  process,
  clock: systemClock,
  create({ worker, settings, ...services }) {
    // Lives as long as the process.
    new BufferGarbage(collect)
    process.title = `headgate: worker ${worker}`
    const { logLevel, drainStrategy } = fromSettings(settings)
    const log = createLog({ level: logLevel })
    process.on('exit', () => log.flush())
    const registry = createFilterRegistry(standardFilters())
    const gradualDrain = drainStrategy === 'gradual'
    const parts = { ...services, registry, filters: lowerFilters(), log, gradualDrain }
    return { engine: createEngine({ ...parts, measuredElsewhere: true, clock: systemClock, random: Math.random }), log }
  },
})
