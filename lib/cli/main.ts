#!/usr/bin/env node
import { ignoreBrokenPipes } from '../runtime/shutdown.ts'
import { runCommandLine } from './command-line.ts'

ignoreBrokenPipes(process)
process.exitCode = await runCommandLine(process.argv.slice(2), process)
