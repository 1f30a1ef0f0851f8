#!/usr/bin/env node
import { ignoreBrokenPipes } from '../runtime/shutdown.ts'
import { runCommandLine } from './command-line.ts'
import { keepCompiled } from './compile-cache.ts'

ignoreBrokenPipes(process)
keepCompiled(process.env, import.meta.dirname)
process.exitCode = await runCommandLine(process.argv.slice(2), process)
