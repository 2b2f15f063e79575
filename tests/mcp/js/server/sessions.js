// 2025-03-26 to 2025-11-25: sessions, each with its own server object, in the memory of this process alone.

import { randomUUID } from 'node:crypto';
import { WebStandardStreamableHTTPServerTransport } from '@modelcontextprotocol/server';
import { EventLog } from './event_log.js';

// What clients wait before they resume a stream: short, since tests wait for it.
const RETRY_MS = 200;

export function createSessions(newServer) {
  const transports = new Map();

  async function open(request) {
    const transport = new WebStandardStreamableHTTPServerTransport({
      sessionIdGenerator: randomUUID,
      onsessioninitialized: id => void transports.set(id, transport),
      onsessionclosed: id => void transports.delete(id),
      eventStore: new EventLog(),
      retryInterval: RETRY_MS,
    });
    await (await newServer({ era: 'legacy' })).connect(transport);
    return transport.handleRequest(request);
  }

  return {
    handle(request) {
      const id = request.headers.get('mcp-session-id');
      if (id === null) return open(request);
      return transports.get(id)?.handleRequest(request) ?? unknown();
    },
  };
}

function unknown() {
  const error = { code: -32001, message: 'Session not found' };
  return Response.json({ jsonrpc: '2.0', id: null, error }, { status: 404 });
}
