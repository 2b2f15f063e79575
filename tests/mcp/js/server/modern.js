// 2026-07-28: no sessions, a server object for each request.

import { createMcpHandler } from '@modelcontextprotocol/server';

export function createModernHandler(newServer, bus) {
  return createMcpHandler(newServer, { legacy: 'reject', bus, onerror: error => console.error(error.message) });
}
