import type { FilterFactory } from 'headgate'

interface TagConfig {
  readonly header: string
  readonly tag: string
}

/** Puts a tag on requests, and tells in the response which one it was. Posture: robust; it reads nothing from outside. */
export const requestTag: FilterFactory<TagConfig> = {
  name: 'example.request_tag',
  typeUrls: ['example.headgate.dev.RequestTag'],
  parse(fields) {
    fields.unread('refuse')
    const tag = fields.string('tag')
    if (!/^[\w-]+$/.test(tag)) fields.error('tag', 'must be one or more letters, digits, "-" or "_"')
    return { header: fields.string('header').toLowerCase() || 'x-tag', tag }
  },
  compile: ({ header, tag }) => ({
    onRequestHeaders: (stream) => stream.request.set(header, tag),
    onResponseHeaders: (stream) => stream.response.set(header, tag),
  }),
}
