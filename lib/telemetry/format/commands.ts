import { ABSENT_COMMANDS, REFUSED_COMMANDS } from './absent.ts'
import { ADDRESS_COMMANDS } from './addresses.ts'
import { EXCHANGE_COMMANDS } from './exchange.ts'
import { MESSAGE_COMMANDS } from './messages.ts'
import { METADATA_COMMANDS } from './metadata.ts'
import type { Command } from './operator.ts'
import { PROCESS_COMMANDS } from './process.ts'
import { TIME_COMMANDS } from './times.ts'
import { TLS_COMMANDS } from './tls.ts'

/** Every command that compiles and can have a value. */
export const FORMAT_COMMANDS: readonly Command[] = Object.freeze([
  ...TIME_COMMANDS,
  ...EXCHANGE_COMMANDS,
  ...ADDRESS_COMMANDS,
  ...MESSAGE_COMMANDS,
  ...METADATA_COMMANDS,
  ...TLS_COMMANDS,
  ...PROCESS_COMMANDS,
])

/** By name or alias; undefined: no such command. */
export function findCommand(name: string): Command | undefined {
  const named = (command: Command): boolean => command.name === name || command.alias === name
  return FORMAT_COMMANDS.find(named) ?? ABSENT_COMMANDS.find(named)
}

/** The commands as a markdown table for the README; those without a value and those refused follow as sentences. */
export function renderCommandTable(): string {
  const rows = FORMAT_COMMANDS.map((command) => {
    const written = [command.name, ...(command.alias === undefined ? [] : [command.alias])]
      .map((name) => `\`%${name}${command.argument}${command.length === 'refused' ? '' : ':N'}%\``)
      .join(' ')
    return `| ${escapeCell(written)} | ${escapeCell(command.meaning)} |`
  })
  const absent = ABSENT_COMMANDS.map((command) => `\`${command.name}\``).join(', ')
  const refused = REFUSED_COMMANDS.map(([name, why]) => `\`${name}\` (${why})`).join(', ')
  return [
    '| command | meaning |',
    '| --- | --- |',
    ...rows,
    '',
    `Accepted, and never with a value: ${absent}.`,
    '',
    `Refused: ${refused}.`,
    '',
  ].join('\n')
}

function escapeCell(text: string): string {
  return text.replaceAll('|', '\\|')
}
