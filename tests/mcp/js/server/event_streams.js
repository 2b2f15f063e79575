// 2024-11-05: a stream of events and an endpoint for messages; the stream's life is the session's.

import { SSEServerTransport } from '@modelcontextprotocol/sdk/server/sse.js';

export function createEventStreams(newServer) {
  const transports = new Map();
  return {
    async open(request, response) {
      if (request.method !== 'GET') return void response.writeHead(405).end();
      const transport = new SSEServerTransport('/messages', response);
      transports.set(transport.sessionId, transport);
      response.on('close', () => transports.delete(transport.sessionId));
      await (await newServer({ era: 'legacy' })).connect(transport);
    },

    async post(request, response) {
      const id = new URL(request.url, 'http://any').searchParams.get('sessionId');
      const transport = transports.get(id);
      if (!transport) return void response.writeHead(404).end();
      await transport.handlePostMessage(request, response);
    },
  };
}
