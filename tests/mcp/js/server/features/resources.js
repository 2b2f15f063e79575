// Resources, a template, and who watches what.

import { ResourceTemplate } from '@modelcontextprotocol/server';
import { PNG } from './content.js';

export function registerResources(server, era) {
  const fixed = (name, uri, description, mimeType, content) =>
    server.registerResource(name, uri, { description, mimeType }, () => ({
      contents: [{ uri, mimeType, ...content }],
    }));

  fixed('static-text', 'test://static-text', 'Text', 'text/plain', {
    text: 'This is the content of the static text resource.',
  });
  fixed('static-binary', 'test://static-binary', 'A pixel', 'image/png', { blob: PNG });
  fixed('watched', 'test://watched-resource', 'To be watched', 'text/plain', { text: 'Watched content.' });

  server.registerResource(
    'template',
    new ResourceTemplate('test://template/{id}/data', { list: undefined }),
    { description: 'Data by id', mimeType: 'application/json' },
    (uri, { id }) => {
      const text = JSON.stringify({ id, templateTest: true, data: `Data for ID: ${id}` });
      return { contents: [{ uri: uri.href, mimeType: 'application/json', text }] };
    },
  );

  // 2026-07-28 has subscriptions/listen instead, which the SDK serves.
  if (era !== 'legacy') return;
  const watched = new Set();
  server.server.setRequestHandler('resources/subscribe', ({ params }) => {
    watched.add(params.uri);
    return {};
  });
  server.server.setRequestHandler('resources/unsubscribe', ({ params }) => {
    watched.delete(params.uri);
    return {};
  });
}
